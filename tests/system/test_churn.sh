#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Churn: a cache of 64 MiB before a backing of 1 GiB takes many times its size of random requests of 512 bytes to 100 KiB, with a
# fast backing, with one of 20 MiB/s, and with a cache of the smallest size that format accepts. No error, no deadlock, no wrong byte, and
# `pcache check` finds nothing wrong before and after recovery and drain. See main_churn.c.
#
# CHURN_BYTES (default 256M; long form 4G) written to the fast backing; the slow one takes a quarter. CHURN_SEED (0: random),
# CHURN_VARIANT (default all).
set -u
. "$(dirname "$0")/lib.sh"

BYTES=${CHURN_BYTES:-256M}
SEED=${CHURN_SEED:-0}
CHURN=$BIN_DIR/pcache-churn

needs "$CHURN" "$PCACHE"
scratch

# churn NAME FOLDER PARAMETER...
churn() {
	name=$1 cache=$2/cache
	shift 2
	[ -z "${CHURN_VARIANT:-}" ] || [ "$CHURN_VARIANT" = "$name" ] || return 0
	rm -f "$cache"
	set -- cache="$cache" backing="$SHM_DIR/backing" oracle="$SHM_DIR/oracle" seed="$SEED" "$@"
	echo "$name:"
	"$CHURN" run "$@" || fail "$name"
	check_clean "$cache" "$name: after the load"
	"$CHURN" verify "$@" rate=0 || fail "$name: after it was opened again"
	check_clean "$cache" "$name: after the drain"
}

# quarter SIZE: of a number with suffix M or G.
quarter() {
	case $1 in
	*G) echo $((${1%G} * 1024 / 4))M ;;
	*) echo $((${1%M} / 4))M ;;
	esac
}

PMEM2_FORCE_GRANULARITY=CACHE_LINE
export PMEM2_FORCE_GRANULARITY
churn fast "$SHM_DIR" block_bytes=512 write-bytes="$BYTES"
churn fast-batch-4k "$SHM_DIR" block_bytes=4096 write-bytes="$BYTES" ordering=batch
churn fast-nocrc-flush "$SHM_DIR" block_bytes=512 write-bytes="$BYTES" data_crc=off commit=flush
churn slow "$SHM_DIR" block_bytes=512 write-bytes="$(quarter "$BYTES")" cache-size=16M rate=20M backing-size=256M
churn smallest "$SHM_DIR" block_bytes=512 write-bytes="$(quarter "$BYTES")" cache-size=0 backing-size=64M
churn smallest-4k-batch "$SHM_DIR" block_bytes=4096 write-bytes="$(quarter "$BYTES")" cache-size=0 backing-size=64M ordering=batch
unset PMEM2_FORCE_GRANULARITY
churn page-granularity "$DISK_DIR" block_bytes=512 write-bytes="$(quarter "$BYTES")" backing-size=256M
echo "churn: ok"
