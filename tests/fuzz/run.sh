#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# sh tests/fuzz/run.sh SECONDS [TARGET]: builds the fuzz targets with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer, and runs each (or the one that is
# given: image open_ops kset superblock ops) for so long, from the corpus in the tree. Prints executions per second. A crash, a leak or an input of more than 10 s is
# a finding: the input is kept, how to repeat it is printed, and the exit status is 1.
#
#   PCACHE_FUZZ_BUILD=DIR   build folder (default build/fuzz)
#   PCACHE_FUZZ_WORK=DIR    what was found so far, goes on from run to run (default: in the build folder)
#   PCACHE_FUZZ_TIMEOUT=S   an input that takes longer is a finding (default 10)
#   PCACHE_JOBS=N           processors for the build
#
# sh tests/fuzz/run.sh --corpus: makes the corpus of the tree anew, of generated inputs and of what was found, as few as cover the same.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/need.sh

build=${PCACHE_FUZZ_BUILD:-build/fuzz}
work=${PCACHE_FUZZ_WORK:-$build/work}
tree=tests/fuzz/corpus
all="image open_ops kset superblock ops"
input_max=16384 # bytes; also the largest file of the corpus

usage()
{
	sed -n '4,14s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

[ $# -ge 1 ] || usage
if [ "$1" = --corpus ]; then
	seconds=
	targets=$all
else
	seconds=$1
	case $seconds in
	'' | *[!0-9]*) usage ;;
	esac
	targets=${2:-$all}
	case " $all " in
	*" $targets "* | *"$all"*) ;;
	*) usage ;;
	esac
fi

need_packages clang libclang-rt-14-dev cmake ninja-build pkg-config libpmem2-dev libisal-dev liburing-dev libcmocka-dev || exit 1
mkdir -p "$build" "$work" || exit 1
log=$work/log
programs=pcache-fuzz-seeds
for target in $targets; do
	programs="$programs pcache-fuzz-$target"
done
# shellcheck disable=SC2086
if ! cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang -DPCACHE_FUZZ=ON -DPCACHE_SANITIZE=address,undefined \
	-DPCACHE_TOOL=OFF -DPCACHE_EXAMPLES=OFF >"$log" 2>&1 ||
	! cmake --build "$build" --parallel "${PCACHE_JOBS:-$(nproc)}" --target $programs >"$log" 2>&1; then
	grep -vE '^\[[0-9]+/[0-9]+\] ' "$log" | tail -n 50 >&2
	exit 1
fi

# A run frees some MiB, so a quarantine of 16 holds all of it; a larger one only makes the next allocation ask the kernel for pages.
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:allocator_may_return_null=1:quarantine_size_mb=16:malloc_context_size=12
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
"$build/bin/pcache-fuzz-seeds" "$work/seeds" 60 || exit 1
status=0

# target, options of libFuzzer... Entropic weights are kept for each feature of each input, of which there are tens of thousands: a quarter of the time.
fuzz()
{
	target=$1
	shift
	"$build/bin/pcache-fuzz-$target" -entropic=0 -timeout="${PCACHE_FUZZ_TIMEOUT:-10}" -rss_limit_mb=2048 -max_len=$input_max "$@"
}

run()
{
	target=$1
	mkdir -p "$work/$target" "$work/findings"
	[ -d "$tree/$target" ] && known=$tree/$target || known=
	# shellcheck disable=SC2086
	if fuzz "$target" -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$work/findings/$target-" \
		"$work/$target" $known "$work/seeds/$target" >"$log" 2>&1; then
		sed -n 's/^stat::number_of_executed_units: *//p' "$log" | {
			read -r units
			echo "$target: $units executions, $(sed -n 's/^stat::average_exec_per_sec: *//p' "$log") per second, $(
				grep -oE 'cov: [0-9]+' "$log" | tail -n 1), $(find "$work/$target" -type f | wc -l) inputs"
		}
		return
	fi
	status=1
	echo "$target: FINDING"
	grep -vE '^#[0-9]+\s' "$log" | grep -vE '^(INFO|stat|Running|MS:|0x|Base64)' | tail -n 60
	sed -n 's/^Test unit written to \(.*\)$/kept: \1/p; s/.*Test unit written to \(.*\)$/kept: \1/p' "$log" | sort -u
	finding=$(sed -n 's/.*Test unit written to \(.*\)$/\1/p' "$log" | tail -n 1)
	echo "again: $build/bin/pcache-fuzz-$target $finding"
	echo "as a regression: shorten it by -minimize_crash=1 -runs=100000, and add it to $tree/$target"
}

# A small set of inputs that covers every edge that all of them do, the smallest of it first, as many as the tree can hold; those that are kept by name stay.
corpus()
{
	target=$1
	mkdir -p "$work/merged/$target" "$work/$target" "$tree/$target"
	rm -rf "${work:?}/merged/$target"/*
	fuzz "$target" -set_cover_merge=1 -use_counters=0 "$work/merged/$target" "$tree/$target" "$work/seeds/$target" "$work/$target" >"$log" 2>&1 || {
		tail -n 20 "$log" >&2
		exit 1
	}
	find "$tree/$target" -type f ! -name 'kept-*' -delete
	left=${PCACHE_CORPUS_BYTES:-130000}
	find "$work/merged/$target" -type f -printf '%s %p\n' | sort -n | while read -r bytes file; do
		[ $((left -= bytes)) -ge 0 ] || break
		cp "$file" "$tree/$target/"
	done
	echo "$target: $(find "$tree/$target" -type f | wc -l) of $(find "$work/merged/$target" -type f | wc -l) inputs, $(
		du -sb "$tree/$target" | cut -f1) bytes"
}

for target in $targets; do
	if [ -n "$seconds" ]; then
		run "$target"
	else
		corpus "$target"
	fi
done
exit $status
