#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Quickstart: sh examples/quickstart.sh
#
# Builds libpcache on Debian 12 and shows what it is for. A disk image with a real file system is served over NBD through a
# cache; a client copies another image over it and records what was acknowledged; in the middle of that the server is killed (SIGKILL)
# and started again. Every acknowledged block must be there. The client finishes, the cache is drained, and the disk image alone must
# equal the one that was copied, and pass a file system check.
#
# Missing packages are installed by apt-get if this runs as root or sudo asks for no password. QUICKSTART_DIR names a folder for the
# images (default: a scratch folder that is removed at the end), QUICKSTART_CACHE one for the cache.
set -eu

PACKAGES="gcc libc6-dev cmake ninja-build pkg-config libpmem2-dev libisal-dev liburing-dev nbdkit nbdkit-plugin-dev python3
	python3-libnbd e2fsprogs"
IMAGE_MIB=256
CACHE_MIB=128
KILL_AT=40 # percent acknowledged

cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
export PATH
SERVER=
WORK=
CACHE_DIR=
BEGIN_S=$(date +%s)

say() { echo "quickstart: $*"; }
die() { echo "quickstart: FAILED: $*" >&2; exit 1; }

cleanup() {
	[ -z "$SERVER" ] || kill -9 "$SERVER" 2>/dev/null || true
	[ -z "$CACHE_DIR" ] || rm -rf "$CACHE_DIR"
	[ -z "$WORK" ] || rm -rf "$WORK"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# ---- packages and build ----

install_packages() {
	command -v dpkg-query >/dev/null || return 0 # not Debian: the build says what is missing
	missing=
	for package in $PACKAGES; do
		case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true) in
		*" installed"*) ;;
		*) [ "$package" = pkg-config ] && command -v pkg-config >/dev/null || missing="$missing $package" ;;
		esac
	done
	[ -n "$missing" ] || return 0
	sudo=
	if [ "$(id -u)" -ne 0 ]; then
		sudo="sudo"
		sudo -n true 2>/dev/null || {
			echo "quickstart: packages are missing; run this line, then this script again:" >&2
			echo "sudo apt-get install -y$missing" >&2
			exit 1
		}
	fi
	say "installing$missing"
	$sudo apt-get update -qq || die "apt-get update"
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
		die "apt-get install$missing"
}

build() {
	say "building"
	{ cmake --preset release && cmake --build --preset release --target pcache_tool nbdkit_plugin; } >"$WORK/build.log" 2>&1 || {
		tail -n 40 "$WORK/build.log" >&2
		die "the build"
	}
	BIN=$PWD/build/release/bin
}

# ---- images ----

# stage FOLDER MIB PATH...: copies real files of up to MIB MiB in all.
stage() {
	to=$1 budget_mib=$2
	shift 2
	mkdir -p "$to"
	for from; do
		[ -d "$from" ] && find "$from" -type f -size -2048k -printf '%s %p\n'
	done | awk -v left=$((budget_mib * 1048576)) '{ s = $1 + 4096; if (s < left) { left -= s; sub(/^[0-9]+ /, ""); print } }' >"$WORK/files"
	tar -cf - -T "$WORK/files" 2>/dev/null | tar -xf - -C "$to"
}

make_image() {
	mke2fs -q -t ext4 -m 0 -d "$2" "$1" "${IMAGE_MIB}M" >"$WORK/mke2fs.log" 2>&1 || {
		cat "$WORK/mke2fs.log" >&2
		die "mke2fs"
	}
	rm -rf "$2"
}

# ---- the server ----

start_server() {
	rm -f "$WORK/socket" "$WORK/pid"
	nbdkit -f --exit-with-parent -U "$WORK/socket" -P "$WORK/pid" "$BIN/nbdkit-pcache-plugin.so" \
		cache="$CACHE_DIR/cache" cache-size="${CACHE_MIB}M" backing="$WORK/backing.img" ordering=strict commit="$COMMIT" \
		backing-rate=100M 2>"$WORK/server.log" &
	SERVER=$!
	tries=0
	until [ -s "$WORK/pid" ]; do
		tries=$((tries + 1))
		kill -0 "$SERVER" 2>/dev/null && [ $tries -lt 300 ] || { cat "$WORK/server.log" >&2; die "the server did not start"; }
		sleep 0.1
	done
}

client() {
	what=$1 out=$2
	shift 2
	/usr/bin/python3 examples/nbdkit/copy_client.py "$what" "nbd+unix:///?socket=$WORK/socket" "$WORK/new.img" "$WORK/record" \
		--ack="$ACK" "$@" >"$out"
}

figure() { sed -n "s/^$2=//p" "$1"; }

# ---- all of it ----

install_packages
WORK=$(mktemp -d "${QUICKSTART_DIR:-${TMPDIR:-/tmp}}/pcache-quickstart.XXXXXX")
build

shm_mib=$(($(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }' || true) / 1024))
if [ -n "${QUICKSTART_CACHE:-}" ]; then
	CACHE_DIR=$(mktemp -d "$QUICKSTART_CACHE/pcache-quickstart.XXXXXX")
elif [ -w /dev/shm ] && [ "$shm_mib" -gt $((CACHE_MIB + 32)) ]; then
	CACHE_DIR=$(mktemp -d /dev/shm/pcache-quickstart.XXXXXX)
else
	CACHE_DIR=$(mktemp -d "$WORK/cache.XXXXXX")
fi
case $CACHE_DIR in
/dev/shm/*)
	# Memory stands in for persistent memory: stores are kept by a kill, so granularity CACHE_LINE is what it has.
	PMEM2_FORCE_GRANULARITY=CACHE_LINE
	export PMEM2_FORCE_GRANULARITY
	COMMIT=write ACK=write MEDIA="memory, as CACHE_LINE"
	;;
*)
	COMMIT=auto ACK=flush MEDIA="file on disk"
	;;
esac

say "making two file systems of real files"
stage "$WORK/tree" 30 include src docs examples tests /usr/share/doc /usr/share/common-licenses
make_image "$WORK/old.img" "$WORK/tree"
stage "$WORK/tree" 60 /usr/include /usr/lib/python3 /usr/lib/python3.11 /usr/share/perl /usr/share/cmake-3.25
make_image "$WORK/new.img" "$WORK/tree"
cp "$WORK/old.img" "$WORK/backing.img"

say "serving the first through a cache of $CACHE_MIB MiB, copying the second over it, killing the server at $KILL_AT %"
start_server
client copy "$WORK/copy1" --kill-pid "$SERVER" --kill-at "$KILL_AT" && die "the copy ended before the server was killed"
wait "$SERVER" 2>/dev/null || true
SERVER=
acked=$(figure "$WORK/copy1" acknowledged)
chunks=$(figure "$WORK/copy1" chunks)
in_flight=$(figure "$WORK/copy1" killed_with_in_flight)
[ -n "$in_flight" ] && [ "$acked" -lt "$chunks" ] || die "the server was not killed in mid-write"
cmp -s "$WORK/backing.img" "$WORK/new.img" && die "the backing was complete before the kill"
dirty=$("$BIN/pcache" info "$CACHE_DIR/cache" 2>/dev/null | sed -n 's/^dirty  *//p' | head -n 1)

say "starting it again, reading back what was acknowledged"
start_server
client check "$WORK/check" --old "$WORK/old.img" || die "something that was acknowledged is lost"
say "repeating the rest"
client copy "$WORK/copy2" || die "the second copy"
say "stopping the server, which drains the cache"
kill "$SERVER"
wait "$SERVER" || { cat "$WORK/server.log" >&2; die "the drain"; }
SERVER=

cmp "$WORK/backing.img" "$WORK/new.img" || die "the backing differs from the image"
e2fsck -fn "$WORK/backing.img" >"$WORK/e2fsck.log" 2>&1 || { cat "$WORK/e2fsck.log" >&2; die "the file system is damaged"; }
"$BIN/pcache" check "$CACHE_DIR/cache" >"$WORK/check.log" 2>&1 || { cat "$WORK/check.log" >&2; die "pcache check"; }

row() { printf '  %-46s %s\n' "$1" "$2"; }
echo
row "image, cache" "$IMAGE_MIB MiB, $CACHE_MIB MiB ($MEDIA)"
row "acknowledged when the server was killed" "$acked of $chunks chunks of 64 KiB"
row "writes in flight at that moment" "$in_flight"
[ -z "$dirty" ] || row "of the data only in the cache" "$dirty"
row "acknowledged chunks lost" "$(figure "$WORK/check" lost)"
row "others found whole new, whole old, torn" "$(figure "$WORK/check" sent_new), $(figure "$WORK/check" sent_old), $(figure "$WORK/check" torn)"
row "written after the restart" "$(figure "$WORK/copy2" new) chunks"
row "backing alone after the drain" "equals the image"
row "e2fsck -fn" "clean"
row "pcache check" "clean"
row "time" "$(($(date +%s) - BEGIN_S)) s"
echo
say "ok"
