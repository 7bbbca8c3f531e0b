#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Kill loops through NBD: a client that records acknowledgements, many requests in flight, SIGKILL, restart, read back (G2 to G5).
# Media as CACHE_LINE (memory) and at page granularity (disk), both commit modes, both orderings, CRC on and off.
#
# NBD_KILL_CYCLES (default 4; long form 200) kills per variant, NBD_KILL_SEED (0: random), NBD_KILL_VARIANT (default all) one of them.
set -u
. "$(dirname "$0")/lib.sh"

CYCLES=${NBD_KILL_CYCLES:-4}
SEED=${NBD_KILL_SEED:-0}

needs nbdkit "$PLUGIN" "$PCACHE" "$PYTHON"
"$PYTHON" -c 'import nbd' 2>/dev/null || skip "python3-libnbd is missing"
scratch

# kills NAME FOLDER COMMIT BLOCK CYCLES PARAMETER...
kills() {
	name=$1 folder=$2 commit=$3 block=$4 cycles=$5
	shift 5
	[ -z "${NBD_KILL_VARIANT:-}" ] || [ "$NBD_KILL_VARIANT" = "$name" ] || return 0
	cache=$folder/cache
	rm -f "$cache" "$cache.stats" "$DISK_DIR/backing"
	truncate -s 128M "$DISK_DIR/backing"
	echo "$name:"
	"$PYTHON" "$SOURCE_DIR/tests/system/nbd_kill.py" --seed "$SEED" --cycles "$cycles" --socket "$SOCKET" \
		--block "$block" --blocks $((128 * 1024 * 1024 / block)) --commit "$commit" --backing "$DISK_DIR/backing" -- \
		env LD_PRELOAD="$(server_preload)" ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" nbdkit -f --exit-with-parent -U "$SOCKET" "$PLUGIN" cache="$cache" backing="$DISK_DIR/backing" commit="$commit" block="$block" \
		cache-size=32M "$@" 2>"$DISK_DIR/server.log" || { tail -n 20 "$DISK_DIR/server.log" >&2; fail "$name"; }
	check_clean "$cache" "$name"
	[ "$(stat -c %s "$DISK_DIR/backing")" -eq $((128 * 1024 * 1024)) ] || fail "$name: the backing changed its size"
}

PMEM2_FORCE_GRANULARITY=CACHE_LINE
export PMEM2_FORCE_GRANULARITY
kills line-write-strict "$SHM_DIR" write 4096 "$CYCLES" ordering=strict
kills line-write-batch-nocrc "$SHM_DIR" write 4096 "$CYCLES" ordering=batch data-crc=off
kills line-flush-strict-slow "$SHM_DIR" flush 4096 "$CYCLES" ordering=strict backing-rate=30M
kills line-flush-batch-512 "$SHM_DIR" flush 512 "$CYCLES" ordering=batch
unset PMEM2_FORCE_GRANULARITY
kills page-flush-strict "$DISK_DIR" flush 4096 "$CYCLES" ordering=strict
kills page-flush-batch-nocrc "$DISK_DIR" flush 4096 "$CYCLES" ordering=batch data-crc=off
kills page-write-strict "$DISK_DIR" write 4096 2 ordering=strict
echo "nbd_kill: ok"
