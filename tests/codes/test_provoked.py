# SPDX-License-Identifier: BSD-3-Clause
"""
Every error code that a public call lists was returned by that call in a unit test of this build.

The tests note what calls return (codes/note.h). Skipped unless all unit tests ran here. First a code that no call returns is planted, to know that it is missed.
"""
import errno
import os
import re
import sys

ROOT = os.environ["PCACHE_SOURCE_DIR"]
sys.path.insert(0, os.path.join(ROOT, "docs"))
sys.dont_write_bytecode = True
import headers  # noqa: E402  pylint: disable=wrong-import-position,import-error

SKIPPED = 77
# What no test provokes, and why.
ARGUED = {
    ("pcache_drain", "-ENOMEM"): "the index has to grow for a damaged version in more parts than a write reserves for: then there are gaps between them, which only clean versions have",
    ("pcache_maintain", "-ENOMEM"): "as for pcache_drain",
}


def own_codes():
    with open(os.path.join(ROOT, "include/pcache/errors.h"), encoding="utf-8") as f:
        return {name: int(value) for name, value in re.findall(r"X\((PCACHE_E_\w+), (-\d+)", f.read())}


def missing(listed, seen, values):
    for name, codes in sorted(listed.items()):
        for code in sorted(codes):
            value = values[code] if code in values else -getattr(errno, code[1:])
            if (f"{name},{value}" in seen) == ((name, code) in ARGUED):
                yield f"{name}: {code}"


folder = os.environ["PCACHE_CODES_DIR"]
found = set(os.listdir(folder))
not_run = [t for t in os.environ["PCACHE_UNIT_TESTS"].split(":") if f"ran,{t}" not in found]
if not_run:
    print(f"skipped: {len(not_run)} unit tests did not run in this build, such as {not_run[0]}")
    sys.exit(SKIPPED)
functions = {name: f for name, f in headers.functions(ROOT).items() if f[0] == "int"}
calls = headers.listed_codes(functions)
values_by_name = own_codes()
planted = {**calls, "pcache_planted": {"PCACHE_E_FULL"}}
if "pcache_planted: PCACHE_E_FULL" not in missing(planted, found, values_by_name):
    sys.exit("a planted code is not missed")
absent = list(missing(calls, found, values_by_name))
for line in absent:
    print(f"no unit test has seen, or one has and ARGUED says that none can: {line}")
print(f"{sum(len(c) for c in calls.values())} codes of {len(calls)} calls, {len(absent)} not seen")
sys.exit(1 if absent else 0)
