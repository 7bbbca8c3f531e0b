#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Kill loops against an NBD server, with an oracle of what was acknowledged.

Usage: nbd_kill.py --seed N --cycles N ... -- nbdkit -U SOCKET ... (the command that starts the server)

Each cycle starts the server, issues random writes, zeroes, trims and flushes over several connections with many requests in
flight, kills the server with SIGKILL after a random time, starts it again and reads back everything that was touched. Sometimes
the new server is killed while it recovers, and sometimes right after it was read, to see that what was shown is not undone.

The oracle. Blocks carry their number and the version of the request that wrote them. For each block it keeps the versions that
it may show: the newest durable one, and every later or concurrent one that was issued. A request becomes durable when its
reply arrives (commit mode `write`, or FUA), or when the reply to a flush arrives that was issued after it. Then every version whose
reply came before that request was issued is ruled out (G2, G3). A request that shows in one of its blocks shows in all, unless
a later or concurrent one does (G4). What was read once is the only version allowed from then on (G5).
"""
import argparse
import os
import random
import signal
import struct
import subprocess
import sys
import time

import nbd

NEVER = float("inf")


class Request:
    __slots__ = ("version", "first", "count", "issued", "completed", "durable")

    def __init__(self, version, first, count, issued):
        self.version, self.first, self.count, self.issued = version, first, count, issued
        self.completed = NEVER
        self.durable = False


class Failure(Exception):
    pass


class Test:
    def __init__(self, args):
        self.args = args
        self.rng = random.Random(args.seed)
        self.clock = 0                  # orders issues and replies
        self.version_nr = 0
        self.zero = Request(0, 0, args.blocks, 0)
        self.zero.completed = 0
        self.zero.durable = True
        self.may_show = {}              # block -> requests; missing: zeroes
        self.by_version = {}
        self.not_durable = []           # replied to, no flush since
        self.server = None
        self.stats = dict.fromkeys(("writes", "acked", "flushes", "in_flight_at_kill", "shown_unacked", "recovery_kills", "blocks_read"), 0)

    # ---- server ----

    def start(self):
        if os.path.exists(self.args.socket):
            os.unlink(self.args.socket)
        self.server = subprocess.Popen(self.args.command)

    def kill(self):
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()

    def connect(self):
        deadline = time.monotonic() + 60
        while True:
            h = nbd.NBD()
            try:
                h.connect_unix(self.args.socket)
                return h
            except nbd.Error:
                if self.server.poll() is not None:
                    raise Failure(f"the server ended with {self.server.returncode}")
                if time.monotonic() > deadline:
                    raise Failure("the server did not start")
                time.sleep(0.01)

    # ---- oracle ----

    def tick(self):
        self.clock += 1
        return self.clock

    def make_durable(self, request):
        request.durable = True
        for block in range(request.first, request.first + request.count):
            self.may_show[block] = [r for r in self.may_show[block] if r is request or r.completed > request.issued]

    def replied(self, request, durable):
        request.completed = self.tick()
        self.stats["acked"] += 1
        if durable or self.args.commit == "write":
            self.make_durable(request)
        else:
            self.not_durable.append(request)

    def allowed(self, block):
        return self.may_show.get(block) or [self.zero]

    def check(self, shown):
        """shown: block -> version or 0."""
        for block, version in shown.items():
            if not any(r.version == version for r in self.allowed(block)):
                r = self.by_version.get(version)
                state = "never issued" if r is None else "durable" if r.durable else "replied to" if r.completed < NEVER else "in flight"
                raise Failure(f"block {block} shows version {version} ({state}), allowed: "
                              f"{[(r.version, r.durable) for r in self.allowed(block)]}")
        for version in set(shown.values()) - {0}:
            request = self.by_version[version]
            for block in range(request.first, request.first + request.count):
                # Zeroes of several requests look the same: the latest one speaks for all.
                candidates = [r for r in self.allowed(block) if r.version == shown[block]]
                if all(r.completed < request.issued for r in candidates):
                    raise Failure(f"version {version} shows in some of its blocks, but block {block} shows {shown[block]}")
            self.stats["shown_unacked"] += request.completed == NEVER
        for block, version in shown.items():
            left = [r for r in self.allowed(block) if r.version == version]
            for r in left:
                r.durable = True
                r.completed = min(r.completed, self.clock)
            self.may_show[block] = left
        self.not_durable = []

    # ---- load ----

    def payload(self, version, first, count):
        size = self.args.block
        return b"".join(struct.pack("<QQ", block, version) * (size // 16) for block in range(first, first + count))

    def issue(self, h, conn):
        rng, args = self.rng, self.args
        kind = rng.random()
        if kind < 0.03:
            covered, self.not_durable = self.not_durable, []
            conn["n"] += 1

            def on_flush(err):
                conn["n"] -= 1
                if getattr(err, "value", err) == 0:
                    self.stats["flushes"] += 1
                    for r in covered:
                        self.make_durable(r)
                else:
                    self.error = True
                return 1
            h.aio_flush(on_flush)
            return
        count = 1 + (rng.randrange(args.max_blocks) if rng.random() < 0.3 else rng.randrange(4))
        area = args.blocks // 32 if rng.random() < 0.5 else args.blocks
        first = rng.randrange(area - count + 1)
        zero = kind < 0.08
        fua = rng.random() < 0.02
        self.version_nr += 1
        version = 0 if zero else self.version_nr
        request = Request(version, first, count, self.tick())
        if version:
            self.by_version[version] = request
        for block in range(first, first + count):
            self.may_show.setdefault(block, [self.zero]).append(request)
        conn["n"] += 1
        self.stats["writes"] += 1

        def on_reply(err):
            conn["n"] -= 1
            if getattr(err, "value", err) == 0:
                self.replied(request, fua)
            else:
                self.error = True
            return 1
        flags = nbd.CMD_FLAG_FUA if fua else 0
        off, length = first * args.block, count * args.block
        if not zero:
            h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(self.payload(version, first, count))), off, on_reply, flags)
        elif kind < 0.06:
            h.aio_zero(length, off, on_reply, flags | (nbd.CMD_FLAG_NO_HOLE if kind < 0.05 else 0))
        else:
            h.aio_trim(length, off, on_reply, flags)

    def load(self, seconds):
        conns = []
        for _ in range(self.args.connections):
            h = self.connect()
            conns.append((h, {"n": 0}))
        self.error = False
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for h, conn in conns:
                while conn["n"] < self.args.depth:
                    self.issue(h, conn)
                h.poll(0 if len(conns) > 1 else 1)
                if self.error:
                    raise Failure("a request failed while the server was alive")
        self.kill()
        self.stats["in_flight_at_kill"] += sum(conn["n"] for _, conn in conns)
        # Replies that were sent before the kill are promises too: read them, then the connection is at its end.
        for h, conn in conns:
            try:
                while conn["n"] and not (h.aio_is_dead() or h.aio_is_closed()):
                    if h.poll(1000) == 0:
                        break
            except nbd.Error:
                pass

    def verify(self, read):
        """read(length, offset) gives the bytes that are shown."""
        blocks = sorted(self.may_show)
        size, shown, i = self.args.block, {}, 0
        while i < len(blocks):
            j = i
            while j + 1 < len(blocks) and blocks[j + 1] == blocks[j] + 1 and j - i < 255:
                j += 1
            data = read((j - i + 1) * size, blocks[i] * size)
            for k in range(i, j + 1):
                piece = data[(k - i) * size:(k - i + 1) * size]
                number, version = struct.unpack_from("<QQ", piece)
                whole = piece == piece[:16] * (size // 16) and (version == 0 and number == 0 or number == blocks[k])
                if not whole:
                    raise Failure(f"block {blocks[k]} is torn or of another place")
                shown[blocks[k]] = version
            i = j + 1
        self.stats["blocks_read"] += len(blocks)
        self.check(shown)
        # Only what is still shown can ever be asked about again.
        alive = set(shown.values())
        self.by_version = {v: r for v, r in self.by_version.items() if v in alive}

    def run(self):
        rng, args = self.rng, self.args
        for cycle in range(args.cycles):
            self.start()
            if cycle:
                while rng.random() < 0.25:      # kill it while it recovers
                    time.sleep(rng.random() ** 2 * 0.12)
                    self.kill()
                    self.stats["recovery_kills"] += 1
                    self.start()
                h = self.connect()
                self.verify(lambda length, off: bytes(h.pread(length, off)))
                if rng.random() < 0.3:          # what was shown must stay
                    self.kill()
                    self.start()
                    h = self.connect()
                    self.verify(lambda length, off: bytes(h.pread(length, off)))
                h.shutdown()
            self.load(rng.uniform(0.2, 1.0) * args.seconds)
        self.start()
        h = self.connect()
        self.verify(lambda length, off: bytes(h.pread(length, off)))
        h.shutdown()
        self.server.send_signal(signal.SIGTERM)  # drains
        if self.server.wait() != 0:
            raise Failure("the server ended with an error")
        if args.backing:
            fd = os.open(args.backing, os.O_RDONLY)
            self.verify(lambda length, off: os.pread(fd, length, off))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=0, help="0: random")
    p.add_argument("--cycles", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.0, help="longest load before a kill")
    p.add_argument("--socket", required=True)
    p.add_argument("--block", type=int, default=4096)
    p.add_argument("--blocks", type=int, required=True, help="blocks of the export that are used")
    p.add_argument("--max-blocks", type=int, default=32, help="longest request")
    p.add_argument("--connections", type=int, default=2)
    p.add_argument("--depth", type=int, default=8, help="requests in flight per connection")
    p.add_argument("--commit", choices=("write", "flush"), required=True, help="commit mode of the cache")
    p.add_argument("--backing", help="file that holds everything once the server has ended in an orderly way")
    p.add_argument("command", nargs="+")
    args = p.parse_args()
    args.seed = args.seed or random.SystemRandom().randrange(1 << 32)
    t = Test(args)
    try:
        t.run()
    except (Failure, nbd.Error) as e:
        print(f"FAILED: {e}; seed={args.seed}", file=sys.stderr)
        if t.server:
            t.server.kill()
        return 1
    print(f"nbd_kill: seed={args.seed} cycles={args.cycles} " + " ".join(f"{k}={v}" for k, v in t.stats.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
