# SPDX-License-Identifier: BSD-3-Clause
"""
docs/FAULTS.md shows the fault matrix as it is: the same tables, rows and columns, a number above 0 in each cell that runs, the same words in each other, and the ctests that cells
name exist. The cells that do not run are exactly those of cells.expected, so that none is lost unnoticed. Runs nothing.

Tries itself on planted faults first.
"""
import os
import re
import subprocess
import sys

SOURCE = os.environ["PCACHE_SOURCE_DIR"]
PROGRAM = os.path.join(os.environ["PCACHE_BIN_DIR"], "pcache-fault-matrix")
BUILD = os.environ["PCACHE_BUILD_DIR"]


def tables_of_list(text):
    """[(row names, column names, {(row, column): text})], in order."""
    tables, last = [], None
    for line in text.splitlines():
        name, row, col, what = line.split("|")
        if name != last:
            tables.append(([], [], {}))
            last = name
        rows, cols, cells = tables[-1]
        if row not in rows:
            rows.append(row)
        if col not in cols:
            cols.append(col)
        cells[(row, col)] = what
    return tables


def tables_of_doc(text):
    tables = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().split("\n")]
        rows = [line[0] for line in lines[2:]]
        cols = lines[0][1:]
        cells = {(line[0], col): cell for line in lines[2:] for col, cell in zip(cols, line[1:])}
        tables.append((rows, cols, cells))
    return tables


def faults_of(listed, doc, expected, tests):
    want, have = tables_of_list(listed), tables_of_doc(doc)
    faults = []
    if [(rows, cols) for rows, cols, _ in want] != [(rows, cols) for rows, cols, _ in have]:
        faults.append("tables, rows or columns are not those of the program")
    for (_, _, wanted), (_, _, found) in zip(want, have):
        for cell, what in wanted.items():
            shown = found.get(cell, "")
            if what == "run" and not re.fullmatch(r"[1-9]\d*", shown):
                faults.append(f"{cell}: {shown!r} is no number of injections")
            if what != "run" and shown != what:
                faults.append(f"{cell}: {shown!r}, the program says {what!r}")
            if what.startswith("see ") and what[4:] not in tests:
                faults.append(f"{cell}: there is no ctest {what[4:]}")
            if what != "run" and not re.match(r"(n/a: |see )\S", what):
                faults.append(f"{cell}: {what!r} is no reason")
    if [line for line in listed.splitlines() if not line.endswith("|run")] != expected.splitlines():
        faults.append("the cells that do not run are not those of cells.expected")
    return faults


def check_self():
    listed = "t|r|c|run\nt|r|d|see a_b\nt|s|c|n/a: no\nt|s|d|run\n"
    doc = "|  | c | d |\n|---|---|---|\n| r | 3 | see a_b |\n| s | n/a: no | 12 |\n"
    expected = "t|r|d|see a_b\nt|s|c|n/a: no\n"
    if faults_of(listed, doc, expected, {"a_b"}):
        sys.exit(f"the test is broken: {faults_of(listed, doc, expected, {'a_b'})}")
    planted = [
        (listed, doc.replace("| 3 |", "| 0 |"), expected, {"a_b"}),
        (listed, doc.replace("| s |", "| q |"), expected, {"a_b"}),
        (listed, doc.replace("n/a: no", "n/a: so"), expected, {"a_b"}),
        (listed, doc, expected, {"a_c"}),
        (listed.replace("t|s|d|run", "t|s|d|n/a: x"), doc.replace("12", "n/a: x"), expected, {"a_b"}),
        (listed.replace("n/a: no", "no"), doc.replace("n/a: no", "no"), expected.replace("n/a: no", "no"), {"a_b"}),
    ]
    for fault in planted:
        if not faults_of(*fault):
            sys.exit(f"the test is broken: it does not see what is wrong with {fault}")


def read(*path):
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as file:
        return file.read()


check_self()
listed = subprocess.run([PROGRAM, "--list"], capture_output=True, text=True, check=True).stdout
names = subprocess.run(["ctest", "-N"], cwd=BUILD, capture_output=True, text=True, check=True).stdout
tests = set(re.findall(r"^ *Test +#\d+: (\S+)$", names, re.M))
doc = read("docs", "FAULTS.md").split("# The matrix\n", 1)[1]
found = faults_of(listed, doc, read("tests", "fault", "cells.expected"), tests)
for fault in found:
    print(fault)
print(f"{len(listed.splitlines())} cells, {len(found)} faults")
sys.exit(1 if found else 0)
