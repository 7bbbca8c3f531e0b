# SPDX-License-Identifier: BSD-3-Clause
"""
docs/GUARANTEES.md names real tests: each of G1 to G26 has one section, in order; each section says `Held by:` and names ctests that exist,
or says what is not held yet. What does not exist must not be promised by name.

Runs its own rules on planted faults first, so that it is known to fail.
"""
import os
import re
import shutil
import subprocess
import sys

import lint

DOC = "docs/GUARANTEES.md"
NUMBERS = range(1, 27)


def faults_of(text, tests):
    """All that is wrong with the document, as (line, what)."""
    faults = []
    sections = [(m.start(), int(m.group(1))) for m in re.finditer(r"^### G(\d+): ", text, re.M)]
    if [number for _, number in sections] != list(NUMBERS):
        faults.append((1, f"the sections are not G{NUMBERS[0]} to G{NUMBERS[-1]} in order"))
    ends = [start for start, _ in sections[1:]] + [len(text)]
    for (start, number), end in zip(sections, ends):
        section = text[start:end]
        line = text.count("\n", 0, start) + 1
        held = re.search(r"^Held by: (.*?)(?:\n\n|\Z)", section, re.M | re.S)
        names = re.findall(r"`([^`]+)`", held.group(1)) if held else []
        for name in names:
            if name not in tests:
                faults.append((line, f"G{number}: there is no ctest {name}"))
        if not names and not re.search(r"^Not (held|built) yet: ", section, re.M):
            faults.append((line, f"G{number}: neither a test that holds it, nor 'Not held yet:' or 'Not built yet:'"))
    return faults


def known_tests():
    """Names of `ctest -N` of the build directory; None without one."""
    build = os.environ.get("PCACHE_BUILD_DIR") or os.path.join(lint.ROOT, "build", "debug")
    if not shutil.which("ctest") or not os.path.exists(os.path.join(build, "CTestTestfile.cmake")):
        return None
    run = subprocess.run(["ctest", "-N"], cwd=build, capture_output=True, text=True, check=True)
    return set(re.findall(r"^ *Test +#\d+: (\S+)$", run.stdout, re.M))


def check_self():
    good = "".join(f"### G{i}: x\n\nText.\n\nHeld by: `a_b`.\n\n" for i in NUMBERS)
    planted = {
        "there is no ctest a_c": good.replace("`a_b`", "`a_c`", 1),
        "in order": good.replace("### G7: ", "### G8: ", 1),
        "G9: neither": good.replace("### G9: x\n\nText.\n\nHeld by: `a_b`.", "### G9: x\n\nText."),
        "G26: neither": good.replace("### G26: x\n\nText.\n\nHeld by: `a_b`.", "### G26: x\n\nHeld by: hope."),
    }
    if faults_of(good, {"a_b"}):
        sys.exit(f"the lint is broken: faults in a good text: {faults_of(good, {'a_b'})}")
    for expected, text in planted.items():
        if not any(expected in what for _, what in faults_of(text, {"a_b"})):
            sys.exit(f"the lint is broken: it does not see '{expected}'")


check_self()
TESTS = known_tests()
if TESTS is None:
    print("skipped: no ctest or no build directory")
    sys.exit(77)
if "base_crc" not in TESTS:
    print("skipped: the unit tests are not built")
    sys.exit(77)
report = lint.Report()
report.looked_at = len(NUMBERS)
for at, fault in faults_of(lint.text(DOC), TESTS):
    report.say(DOC, at, fault)
report.end("guarantees")
