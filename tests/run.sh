#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Builds libpcache in every way that counts, runs the tests, and ends with the line "N passed, N failed". On a bare Debian 12 it first
# installs what it needs. Everything lands in build/<preset>/.
#
#   PCACHE_JOBS=N    processors to use (default: all)
#   PCACHE_BUILDS=   some of "debug clang asan tsan release" (default: all)
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/need.sh
need_packages gcc g++ libc6-dev clang libclang-rt-14-dev binutils cmake ninja-build patch pkg-config python3 libpmem2-dev libisal-dev \
	liburing-dev systemtap-sdt-dev libcmocka-dev doxygen nbdkit nbdkit-plugin-dev libnbd-dev libnbd-bin python3-libnbd fio valgrind e2fsprogs jq procps util-linux xxd ||
	exit 1

export LC_ALL=C
jobs=${PCACHE_JOBS:-$(nproc)}
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
passed=0
failed=0
skipped=0
began=$(date +%s)

say()
{
	printf '\n=== %s (%d s)\n' "$*" $(($(date +%s) - began))
}

fail() # what
{
	say "FAILED: $1"
	failed=$((failed + 1))
}

# Adds the numbers of a ctest run to the sums.
count()
{
	numbers=$(sed -nE 's/^[0-9]+% tests passed, ([0-9]+) tests? failed out of ([0-9]+).*/\1 \2/p' "$log" | tail -n 1)
	if [ -z "$numbers" ]; then
		fail "ctest of $1 gave no result"
		return
	fi
	f=${numbers% *}
	all=${numbers#* }
	s=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#[0-9]+:.*\*\*\*Skipped' "$log")
	failed=$((failed + f))
	skipped=$((skipped + s))
	passed=$((passed + all - f - s))
}

# preset, ctest arguments...
build_and_test()
{
	preset=$1
	shift
	case " ${PCACHE_BUILDS:-debug clang asan tsan release} " in
	*" $preset "*) ;;
	*) return ;;
	esac
	case $preset in
	asan | tsan) werror=OFF ;; # what sanitizers insert misleads the warnings
	*) werror=ON ;;
	esac
	say "$preset: build"
	if ! cmake --preset "$preset" -DPCACHE_WERROR=$werror >"$log" 2>&1; then
		cat "$log"
		fail "$preset does not configure"
		return
	fi
	if ! cmake --build --preset "$preset" --parallel "$jobs" >"$log" 2>&1; then
		grep -vE '^\[[0-9]+/[0-9]+\] ' "$log" | tail -n 100
		fail "$preset does not build"
		return
	fi
	say "$preset: test"
	ctest --preset "$preset" --parallel "$jobs" --no-tests=error "$@" 2>&1 | tee "$log"
	count "$preset"
}

build_and_test debug
build_and_test clang -L unit
build_and_test asan -LE 'lint|soak'
build_and_test tsan -L unit
build_and_test release -LE 'soak|system'

# The crash simulator does the same in every build, down to what was recovered of each state.
digests()
{
	first=
	for preset in debug clang asan tsan release; do
		case " ${PCACHE_BUILDS:-debug clang asan tsan release} " in
		*" $preset "*) ;;
		*) continue ;;
		esac
		digest=$("build/$preset/bin/pcache-crash-sim" --states 5000 --seed 100 --json | sed -n 's/.*"digest": "\([0-9a-f]*\)".*/\1/p')
		echo "$preset: $digest"
		if [ -z "$digest" ] || [ "${first:=$digest}" != "$digest" ]; then
			fail "the crash simulator of $preset saw something else"
			return
		fi
	done
	passed=$((passed + 1))
}
say "crash simulator: the same states in every build"
digests

say "all builds: $skipped skipped"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
