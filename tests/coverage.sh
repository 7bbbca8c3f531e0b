#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Coverage: builds with gcov in build/coverage, runs the tests, and prints lines and branches of each folder of src; what was never run is listed in build/coverage/missing.txt.
# Ends with 1 if the goals are missed: lines of format, layout and recovery 95 %, branches of the core folders 90 %.
#
# Usage: coverage.sh [CTEST ARGUMENT...]   (default: all but lint, mutants, soak, and the two that compile or count by themselves)
#   PCACHE_JOBS=N    processors to use (default: all)
#
# What is not counted: assertions (the build has none), the planted defects, branches of calls that the compiler adds by itself, and the copies of a function that is always
# inlined: it is compiled as one, so that each branch of the source counts once.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/need.sh
need_packages gcc g++ libc6-dev binutils cmake ninja-build patch pkg-config python3 libpmem2-dev libisal-dev liburing-dev libcmocka-dev nbdkit nbdkit-plugin-dev \
	libnbd-bin python3-libnbd fio jq procps util-linux xxd gcovr || exit 1

# A test that gives its rights up cannot store its counts, and has its own standard error to look at.
export LC_ALL=C GCOV_ERROR_FILE=/dev/null
jobs=${PCACHE_JOBS:-$(nproc)}
build=build/coverage
mkdir -p build || exit 1
[ $# -gt 0 ] || set -- -LE 'lint|mutants|soak' -E 'sim_reduce|bench_instructions'

cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=None -DCMAKE_C_FLAGS="-g -O1 -fno-inline -DNDEBUG --coverage -fprofile-update=atomic -Dalways_inline=noinline" -DPCACHE_SANITIZE= >$build.log 2>&1 &&
	cmake --build $build --parallel "$jobs" >>$build.log 2>&1 || { tail -n 50 $build.log; exit 1; }
find $build -name '*.gcda' -delete
ctest --test-dir $build --parallel "$jobs" --output-on-failure "$@" >$build/ctest.log 2>&1
tail -n 15 $build/ctest.log | grep -E 'tests passed|Failed|Timeout'

gcovr --root . --filter 'src/' --object-directory $build --exclude-unreachable-branches --exclude-throw-branches --gcov-ignore-parse-errors \
	--exclude-branches-by-pattern '.*(PC_PLANTED|PC_YIELD|assert)\(.*' -j "$jobs" --json $build/coverage.json $build 2>$build/gcovr.log || { tail -n 20 $build/gcovr.log; exit 1; }

python3 - $build/coverage.json $build/missing.txt <<'EOF'
import collections
import json
import sys

LINE_GOAL = {"format": 95.0, "layout": 95.0, "recovery": 95.0}
BRANCH_GOAL = 90.0
CORE = ("alloc", "base", "core", "format", "index", "layout", "log", "media", "recovery", "service", "backing")


def share(hit, total):
    return 100.0 if total == 0 else 100.0 * hit / total


def ranges(numbers):
    out = []
    for number in numbers:
        if out and number == out[-1][1] + 1:
            out[-1][1] = number
        else:
            out.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in out)


sums = collections.defaultdict(lambda: [0, 0, 0, 0])
with open(sys.argv[1]) as f, open(sys.argv[2], "w") as missing:
    for file in sorted(json.load(f)["files"], key=lambda x: x["file"]):
        never, half = [], []
        total = sums[file["file"].split("/")[1]]
        for line in file["lines"]:
            if line.get("gcovr/noncode"):
                continue
            total[1] += 1
            total[0] += line["count"] > 0
            branches = line.get("branches", [])
            total[3] += len(branches)
            total[2] += sum(b["count"] > 0 for b in branches)
            if line["count"] == 0:
                never.append(line["line_number"])
            elif any(b["count"] == 0 for b in branches):
                half.append(line["line_number"])
        if never or half:
            print(f"{file['file']}\n  never run:        {ranges(never)}\n  one way only:     {ranges(half)}", file=missing)

bad = []
core = [0, 0]
print(f"\n{'folder':<12}{'lines':>18}{'branches':>20}")
for folder, (line_hit, line_all, branch_hit, branch_all) in sorted(sums.items()):
    print(f"{folder:<12}{share(line_hit, line_all):>8.1f} % of {line_all:<6}{share(branch_hit, branch_all):>8.1f} % of {branch_all:<6}")
    if folder in CORE:
        core = [core[0] + branch_hit, core[1] + branch_all]
    if share(line_hit, line_all) < LINE_GOAL.get(folder, 0):
        bad.append(f"lines of {folder}")
print(f"\nbranches of the core folders ({', '.join(CORE)}): {share(*core):.1f} %; what is missing: {sys.argv[2]}")
if share(*core) < BRANCH_GOAL:
    bad.append("branches of the core folders")
if bad:
    print("below the goal: " + "; ".join(bad))
sys.exit(bool(bad))
EOF
