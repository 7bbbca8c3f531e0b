#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Copy an image to an NBD server with several writes in flight, and keep a record of what was acknowledged.

  copy_client.py copy  URI IMAGE RECORD   write what the record does not show as acknowledged
  copy_client.py check URI IMAGE RECORD   read back: is every acknowledged chunk there, and no other one torn?

The record is a file with one byte per chunk: 0 not sent, 1 sent, 2 acknowledged. A chunk is marked as sent before its write is
issued, and as acknowledged only when the server has promised that it is durable. NBD promises that for a write with the reply
to a later flush (--ack=flush); a cache in commit mode `write` promises it with the reply to the write itself (--ack=write).
With --kill-pid the client kills that process (SIGKILL) as soon as --kill-at percent are acknowledged, while writes are in flight;
it then exits with 3. Figures are printed as key=value lines.
"""
import argparse
import os
import signal
import sys
import time

import nbd

NOT_SENT, SENT, ACKED = 0, 1, 2
EXIT_OK, EXIT_MISMATCH, EXIT_SERVER_GONE = 0, 1, 3


class Record:
    """One byte per chunk, in a file that outlives this process."""

    def __init__(self, path, chunk_nr):
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self.fd, chunk_nr)
        self.state = bytearray(os.pread(self.fd, chunk_nr, 0))

    def set(self, chunk, state):
        if self.state[chunk] < state:
            self.state[chunk] = state
            os.pwrite(self.fd, bytes([state]), chunk)


class Copy:
    def __init__(self, args, image_fd, size_bytes, record):
        self.args, self.image_fd, self.size_bytes, self.record = args, image_fd, size_bytes, record
        self.todo = [c for c in range(len(record.state)) if record.state[c] != ACKED]
        self.todo.reverse()
        self.in_flight = 0
        self.completed = []         # replied, but covered by no flush yet
        self.flush_in_flight = False
        self.error = None
        self.killed_in_flight = None
        self.h = nbd.NBD()
        self.h.connect_uri(args.uri)
        if self.h.get_size() < size_bytes:
            sys.exit("copy_client: the export is smaller than the image")

    def on_write(self, chunk, err):
        self.in_flight -= 1
        if err != 0:
            self.error = self.error or err
        elif self.args.ack == "write":
            self.record.set(chunk, ACKED)
        else:
            self.completed.append(chunk)
        return 1

    def on_flush(self, covered, err):
        self.flush_in_flight = False
        if err != 0:
            self.error = self.error or err
            return 1
        for chunk in covered:
            self.record.set(chunk, ACKED)
        return 1

    def issue_write(self):
        chunk = self.todo.pop()
        off = chunk * self.args.chunk
        data = bytearray(os.pread(self.image_fd, min(self.args.chunk, self.size_bytes - off), off))
        self.record.set(chunk, SENT)
        self.in_flight += 1
        self.h.aio_pwrite(nbd.Buffer.from_bytearray(data), off, lambda err: self.on_write(chunk, err_value(err)))

    def issue_flush(self):
        # Only what was replied to before the flush is sent is covered by it.
        covered, self.completed = self.completed, []
        self.flush_in_flight = True
        self.h.aio_flush(lambda err: self.on_flush(covered, err_value(err)))

    def step(self):
        while self.todo and self.in_flight < self.args.depth:
            self.issue_write()
        enough = len(self.completed) >= self.args.flush_every or not (self.todo or self.in_flight)
        if self.completed and enough and not self.flush_in_flight:
            self.issue_flush()
        self.h.poll(-1)

    def run(self):
        kill_at_nr = len(self.record.state) * self.args.kill_at // 100
        try:
            while self.todo or self.in_flight or self.completed or self.flush_in_flight:
                self.step()
                if self.args.kill_pid and self.killed_in_flight is None and self.in_flight:
                    if self.record.state.count(ACKED) >= kill_at_nr:
                        self.killed_in_flight = self.in_flight
                        os.kill(self.args.kill_pid, signal.SIGKILL)
                if self.error:
                    return self.error
            self.h.flush()
            self.h.shutdown()
        except nbd.Error as e:
            return self.error or str(e)
        return None


def err_value(err):
    """libnbd passes the errno as an object that a callback may change."""
    return getattr(err, "value", err)


def copy(args, image_fd, size_bytes, record):
    before_nr = record.state.count(ACKED)
    start = time.monotonic()
    c = Copy(args, image_fd, size_bytes, record)
    error = c.run()
    seconds = time.monotonic() - start
    acked_nr = record.state.count(ACKED)
    print(f"chunk_bytes={args.chunk}\nchunks={len(record.state)}\nacknowledged={acked_nr}\nnew={acked_nr - before_nr}")
    print(f"sent_not_acknowledged={record.state.count(SENT)}\nseconds={seconds:.1f}")
    if c.killed_in_flight is not None:
        print(f"killed_with_in_flight={c.killed_in_flight}")
    if error is None:
        return EXIT_OK
    print(f"server_gone={error}")
    return EXIT_SERVER_GONE


def check(args, image_fd, size_bytes, record):
    """Acknowledged: new. Sent: new or old, as a whole. Not sent: old."""
    old_fd = os.open(args.old, os.O_RDONLY) if args.old else None
    h = nbd.NBD()
    h.connect_uri(args.uri)
    lost = torn = strange = sent_new = sent_old = acked = 0
    for chunk, state in enumerate(record.state):
        off = chunk * args.chunk
        length = min(args.chunk, size_bytes - off)
        found = bytes(h.pread(length, off))
        is_new = found == os.pread(image_fd, length, off)
        is_old = old_fd is not None and found == os.pread(old_fd, length, off)
        if state == ACKED:
            acked += 1
            if not is_new:
                lost += 1
                print(f"copy_client: acknowledged chunk at {off} is not there", file=sys.stderr)
        elif old_fd is not None and state == SENT:
            sent_new += is_new
            sent_old += is_old and not is_new
            if not (is_new or is_old):
                torn += 1
                print(f"copy_client: chunk at {off} is neither old nor new", file=sys.stderr)
        elif old_fd is not None and not is_old:
            strange += 1
            print(f"copy_client: chunk at {off} changed, though it was never sent", file=sys.stderr)
    h.shutdown()
    print(f"acknowledged={acked}\nlost={lost}\nsent_new={sent_new}\nsent_old={sent_old}\ntorn={torn}\nstrange={strange}")
    return EXIT_OK if lost + torn + strange == 0 else EXIT_MISMATCH


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=("copy", "check"))
    p.add_argument("uri")
    p.add_argument("image")
    p.add_argument("record")
    p.add_argument("--chunk", type=int, default=64 * 1024, help="bytes per write; the same for all runs with one record")
    p.add_argument("--depth", type=int, default=16, help="writes in flight")
    p.add_argument("--ack", choices=("write", "flush"), default="flush", help="what counts as acknowledged")
    p.add_argument("--flush-every", type=int, default=64, help="with --ack=flush: flush after so many writes")
    p.add_argument("--kill-pid", type=int, default=0, help="copy: process to kill in mid-write")
    p.add_argument("--kill-at", type=int, default=40, help="copy: percent acknowledged at which it is killed")
    p.add_argument("--old", help="check: what the export held before, to judge chunks that were not acknowledged")
    args = p.parse_args()

    image_fd = os.open(args.image, os.O_RDONLY)
    size_bytes = os.fstat(image_fd).st_size
    record = Record(args.record, (size_bytes + args.chunk - 1) // args.chunk)
    return (copy if args.what == "copy" else check)(args, image_fd, size_bytes, record)


if __name__ == "__main__":
    sys.exit(main())
