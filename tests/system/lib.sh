# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh disable=SC2034
# Shared by the system tests (POSIX sh, sourced): a scratch folder, an NBD server with the plugin, and clean ends.
#
# From the environment: PCACHE_BIN_DIR (programs; default build/release/bin), PCACHE_SANITIZE. Persistent memory is stood in for by
# /dev/shm with PMEM2_FORCE_GRANULARITY=CACHE_LINE; page granularity is a file on a disk.

SOURCE_DIR=${PCACHE_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
BIN_DIR=${PCACHE_BIN_DIR:-$SOURCE_DIR/build/release/bin}
PLUGIN=$BIN_DIR/nbdkit-pcache-plugin.so
PCACHE=$BIN_DIR/pcache
PYTHON=/usr/bin/python3
SERVER=

skip() { echo "SKIPPED: $*"; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }

needs() {
	for program; do
		command -v "$program" >/dev/null 2>&1 || [ -e "$program" ] || skip "$program is missing"
	done
}

# Scratch folders, removed at the end: $DISK_DIR on disk, $SHM_DIR in memory.
scratch() {
	DISK_DIR=$(mktemp -d "${TMPDIR:-/tmp}/pcache-test.XXXXXX") || fail "no scratch folder"
	if [ -d /dev/shm ] && [ -w /dev/shm ]; then
		SHM_DIR=$(mktemp -d /dev/shm/pcache-test.XXXXXX) || fail "no scratch folder"
	else
		SHM_DIR=$DISK_DIR
	fi
	SOCKET=$DISK_DIR/socket
	URI="nbd+unix:///?socket=$SOCKET"
	trap 'finish $?' EXIT
	trap 'exit 130' INT TERM HUP
}

finish() {
	[ -z "$SERVER" ] || kill -9 "$SERVER" 2>/dev/null
	[ -z "${CHILD:-}" ] || kill -9 "$CHILD" 2>/dev/null
	if [ "$1" -ne 0 ] && [ "$1" -ne 77 ] && [ -n "${PCACHE_KEEP:-}" ]; then
		echo "kept: $DISK_DIR $SHM_DIR" >&2
	else
		rm -rf "$DISK_DIR" "$SHM_DIR"
	fi
	exit "$1"
}

# A sanitizer's run-time must be in nbdkit before the plugin is.
server_preload() {
	case ${PCACHE_SANITIZE:-} in
	*address*) "${PCACHE_CC:-cc}" -print-file-name=libasan.so ;;
	*thread*) "${PCACHE_CC:-cc}" -print-file-name=libtsan.so ;;
	esac
}

# serve PARAMETER...: starts nbdkit on $SOCKET; its parameters are those of the plugin. Its messages go to $DISK_DIR/server.log.
serve() {
	rm -f "$SOCKET" "$DISK_DIR/server.pid"
	LD_PRELOAD=$(server_preload) ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" \
		nbdkit -f --exit-with-parent -U "$SOCKET" -P "$DISK_DIR/server.pid" "$PLUGIN" "$@" 2>>"$DISK_DIR/server.log" &
	SERVER=$!
	tries=0
	until [ -s "$DISK_DIR/server.pid" ] && [ -S "$SOCKET" ]; do
		if ! kill -0 "$SERVER" 2>/dev/null || [ $tries -ge 600 ]; then
			cat "$DISK_DIR/server.log" >&2
			fail "the server did not start: $*"
		fi
		tries=$((tries + 1))
		sleep 0.05
	done
}

# Ends the server in an orderly way: the cache is drained.
stop_server() {
	kill "$SERVER" || fail "the server is gone"
	wait "$SERVER" || { cat "$DISK_DIR/server.log" >&2; fail "the server ended with an error"; }
	SERVER=
	! grep -E 'drain failed|close:' "$DISK_DIR/server.log" >&2 || fail "the server could not drain"
}

# After a kill: waits until the server is gone, and its lock with it.
reap_server() {
	wait "$SERVER" 2>/dev/null
	SERVER=
}

# check_clean CACHE: `pcache check` must find nothing wrong.
check_clean() {
	"$PCACHE" check "$1" >"$DISK_DIR/check.log" 2>&1 || { cat "$DISK_DIR/check.log" >&2; fail "pcache check of $1 ($2)"; }
}
