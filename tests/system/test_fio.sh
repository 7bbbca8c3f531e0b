#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# fio as an independent judge, through NBD. First random reads and writes that fio verifies in the same run, in all commit modes and
# orderings, with and without CRC. Then random writes at depth 1, SIGKILL of the server, restart, and fio verifies all that it had been
# told was written (verify_state_save; deeper queues give false alarms there even with a store that loses nothing).
#
# FIO_BYTES (default 64M) per run, FIO_KILLS (default 3; long form 50), FIO_DEPTH (default 16).
set -u
. "$(dirname "$0")/lib.sh"

BYTES=${FIO_BYTES:-64M}
KILLS=${FIO_KILLS:-3}
DEPTH=${FIO_DEPTH:-16}

needs nbdkit "$PLUGIN" "$PCACHE" fio
fio --enghelp 2>/dev/null | grep -qw nbd || skip "fio has no nbd engine"
scratch

fresh() {
	rm -f "$1" "$1.stats" "$DISK_DIR/backing"
	truncate -s 1G "$DISK_DIR/backing"
}

# figures TEXT: one line out of fio's report.
figures() {
	grep -E '^ *(read|write): ' "$DISK_DIR/fio.log" | sed 's/^ */  '"$1"': /'
}

run_fio() {
	(cd "$DISK_DIR" && fio --name=pcache --ioengine=nbd --uri="$URI" --bs=4k --verify=crc32c --verify_fatal=1 "$@") \
		>"$DISK_DIR/fio.log" 2>&1
}

# verified NAME FOLDER PARAMETER...
verified() {
	name=$1 cache=$2/cache
	shift 2
	fresh "$cache"
	serve cache="$cache" backing="$DISK_DIR/backing" cache-size=32M "$@"
	run_fio --size="$BYTES" --rw=randrw --iodepth="$DEPTH" --verify_backlog=4096 || { cat "$DISK_DIR/fio.log" >&2; fail "$name: fio"; }
	figures "$name"
	stop_server
	check_clean "$cache" "$name"
}

# killed NAME FOLDER PARAMETER...
killed() {
	name=$1 cache=$2/cache
	shift 2
	fresh "$cache"
	i=0
	total=0
	early=0
	while [ $i -lt $((KILLS + early)) ]; do
		i=$((i + 1)) # also the seed: with the same one a lost write would look like the one of the last round
		rm -f "$DISK_DIR"/*-verify.state
		serve cache="$cache" backing="$DISK_DIR/backing" cache-size=32M commit=write "$@"
		run_fio --size=1G --randseed=$i --rw=randwrite --iodepth=1 --do_verify=0 --verify_state_save=1 &
		CHILD=$!
		sleep 0."$((3 + i % 6))"
		sleep 0.5
		kill -9 "$SERVER"
		reap_server
		wait "$CHILD" && fail "$name: fio did not notice that the server was killed"
		CHILD=
		# On a busy machine the kill may come before fio's connection: that round does not count.
		if grep -qE 'io engine nbd init failed|nbd_connect_uri' "$DISK_DIR/fio.log" && [ $early -lt 20 ]; then
			early=$((early + 1))
			continue
		fi
		[ -s "$(echo "$DISK_DIR"/*-verify.state)" ] || { cat "$DISK_DIR/fio.log" >&2; fail "$name: fio left no state"; }
		serve cache="$cache" backing="$DISK_DIR/backing" cache-size=32M commit=write "$@"
		run_fio --size=1G --randseed=$i --rw=randwrite --iodepth=1 --verify_only=1 --verify_state_load=1 ||
			{ cat "$DISK_DIR/fio.log" >&2; fail "$name: after kill $i"; }
		reads=$(sed -n 's/.*issued rwts: total=\([0-9]*\),.*/\1/p' "$DISK_DIR/fio.log")
		[ "${reads:-0}" -gt 0 ] || { cat "$DISK_DIR/fio.log" >&2; fail "$name: fio verified nothing"; }
		total=$((total + reads))
		stop_server
		check_clean "$cache" "$name"
	done
	echo "  $name: $KILLS kills, $total acknowledged writes verified"
}

PMEM2_FORCE_GRANULARITY=CACHE_LINE
export PMEM2_FORCE_GRANULARITY
for commit in write flush; do
	for ordering in strict batch; do
		for crc in on off; do
			verified "commit=$commit ordering=$ordering data-crc=$crc" "$SHM_DIR" commit=$commit ordering=$ordering data-crc=$crc
		done
	done
done
killed "killed, cache line" "$SHM_DIR"
killed "killed, cache line, slow backing" "$SHM_DIR" backing-rate=20M
unset PMEM2_FORCE_GRANULARITY
verified "page granularity" "$DISK_DIR"
killed "killed, page granularity" "$DISK_DIR"
echo "fio: ok"
