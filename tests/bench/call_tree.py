# SPDX-License-Identifier: BSD-3-Clause
"""call_tree.py PROGRAM CACHE KIND: instructions of one kind of operation of pcache-instructions as a tree, by callgrind.

KIND is a name of tests/bench/instructions.expected, such as write_4k. Numbers are instructions per operation; a function that several others call is split
between them by what each call of it cost. Branches below 0.5 % are left out.
"""
import collections
import os
import re
import subprocess
import sys
import tempfile

PROGRAM, CACHE, KIND = sys.argv[1:4]
ROOT = "count_" + KIND

with tempfile.TemporaryDirectory() as folder:
    out = os.path.join(folder, "out")
    run = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out, "--toggle-collect=" + ROOT, "--compress-strings=no",
                          "--compress-pos=no", PROGRAM, CACHE], capture_output=True, text=True, check=True,
                         env={**os.environ, "LD_BIND_NOW": "1", "PMEM2_FORCE_GRANULARITY": "CACHE_LINE",
                              "GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=1073741824"})
    lines = open(out, encoding="utf-8", errors="replace").read().splitlines()
ops = dict(line.split() for line in run.stdout.splitlines())
ops = int(ops[KIND])

own = collections.Counter()
edges = collections.defaultdict(collections.Counter)  # caller, callee: instructions with all below
function = callee = None
call_next = False
for line in lines:
    if line.startswith("fn="):
        function = line[3:]
    elif line.startswith("cfn="):
        callee = line[4:]
    elif line.startswith("calls="):
        call_next = True
    elif re.match(r"[+*-]?\d", line) or line.startswith("*"):
        cost = int(line.split()[1])
        if call_next:
            edges[function][callee] += cost
        else:
            own[function] += cost
        call_next = False


def whole(name):
    return own[name] + sum(edges[name].values())


def show(name, cost, depth, above):
    share = cost / whole(name) if whole(name) else 0
    clean = re.sub(r"'\d+$", "", name)
    print(f"{cost / ops:8.0f} {'  ' * depth}{clean}" + (f"  (itself {own[name] * share / ops:.0f})" if edges[name] and own[name] * share / ops >= 1 else ""))
    if name in above:
        return
    for child, child_cost in sorted(edges[name].items(), key=lambda item: -item[1]):
        if child_cost * share / ops >= total / ops * 0.005:
            show(child, child_cost * share, depth + 1, above | {name})


total = whole(ROOT)
show(ROOT, total, 0, frozenset())
