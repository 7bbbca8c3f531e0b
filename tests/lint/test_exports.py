# SPDX-License-Identifier: BSD-3-Clause
"""
The shared library exports exactly the functions that the headers mark with PCACHE_API, all of a version node; the static library
defines no other global name; neither exports a variable.
"""
import os
import re
import subprocess
import sys

import lint

if os.environ.get("PCACHE_SANITIZE"):
    print("skipped: sanitizers add names of their own")
    sys.exit(77)

BUILD = os.environ["PCACHE_BUILD_DIR"]


def names(*args):
    """{name: type} as nm lists them."""
    out = subprocess.run(["nm", *args], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in out.splitlines()]
    return {row[-1]: row[-2] for row in rows if len(row) in (2, 3)}


# Headers of libraries beside libpcache: each exports what its own header declares.
COMPONENTS = {"nbd.h": "libpcache-nbd.so"}


declared = set()
for path in lint.files("include"):
    if os.path.basename(path) in COMPONENTS:
        continue
    source = re.sub(r"#[^\n]*(\\\n[^\n]*)*", "", lint.without_comments(lint.text(path)))
    declared |= {match.group(1) for match in re.finditer(r"\bPCACHE_API\b[^;{(]*?\b(\w+)\s*\(", source)}

report = lint.Report()
report.looked_at = len(declared)
for name in sorted(declared):
    if not name.startswith("pcache_"):
        report.say("include", 0, f"{name} is public but not called pcache_*")

shared = {}
for name, kind in names("-D", "--defined-only", f"{BUILD}/lib/libpcache.so").items():
    if kind == "A":  # the version node itself
        continue
    if "@@PCACHE_" not in name:
        report.say("libpcache.so", 0, f"{name} has no version node")
    shared[name.split("@")[0]] = kind
static = names("-g", "--defined-only", f"{BUILD}/lib/libpcache.a")

for library, found in (("libpcache.so", shared), ("libpcache.a", static)):
    for name in sorted(declared - set(found)):
        report.say(library, 0, f"{name} is declared but not there")
    for name in sorted(set(found) - declared):
        report.say(library, 0, f"{name} is global but in no public header")
    for name, kind in sorted(found.items()):
        if kind not in "Ti":
            report.say(library, 0, f"{name} is no function (type {kind})")
for header, library in COMPONENTS.items():
    if not os.path.exists(f"{BUILD}/lib/{library}"):
        continue
    wanted = {m.group(1) for m in re.finditer(r"\bPCACHE_API\b[^;{(]*?\b(\w+)\s*\(", lint.without_comments(lint.text(f"include/pcache/{header}")))}
    if set(names("-D", "--defined-only", f"{BUILD}/lib/{library}")) != wanted:
        report.say(library, 0, f"exports something else than {header} declares")
report.end("declared functions")
