# SPDX-License-Identifier: BSD-3-Clause
"""
Every link of the documents leads somewhere: relative ones to a file of the source tree, and to a heading of it if they name one.

Runs its own rules on planted faults first, so that it is known to fail.
"""
import os
import re
import sys

import lint

LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)", re.S)


def without_code(text):
    """The same text without fenced blocks and code spans; lines keep their numbers."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", lambda m: re.sub(r"[^\n]", " ", m.group(0)), text, flags=re.M | re.S)


def anchors(text):
    """Anchors of the headings, as the usual renderers of Markdown make them."""
    names = set()
    for heading in re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M):
        names.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return names


def faults_of(path, text, read):
    """(line, what) for each bad link; read(path) gives the text of a file, or None."""
    faults = []
    for match in LINK.finditer(without_code(text)):
        link = match.group(1)
        line = text.count("\n", 0, match.start()) + 1
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
        there = text if not name else read(target)
        if there is None:
            faults.append((line, f"leads to {target}, which is not there"))
        elif anchor and anchor not in anchors(there):
            faults.append((line, f"leads to heading {anchor} of {target}, which is not there"))
    return faults


def read_file(path):
    full = os.path.join(lint.ROOT, path)
    if os.path.isdir(full):
        return ""
    return lint.text(path) if os.path.exists(full) else None


def check_self():
    files = {"docs/b.md": "# The head\n"}
    good = "# One two\n[x](#one-two) [y](b.md#the-head) [z](https://a.b) `[n](none.md)`\n"
    if faults_of("docs/a.md", good, files.get):
        sys.exit("the lint is broken: faults in a good text")
    for bad in ("[x](#one-three)", "[x](c.md)", "[x](b.md#the-tail)"):
        if len(faults_of("docs/a.md", good + bad, files.get)) != 1:
            sys.exit(f"the lint is broken: it does not see {bad}")


check_self()
report = lint.Report()
documents = [name for name in sorted(os.listdir(lint.ROOT)) if name.endswith(".md")]
documents += list(lint.files("docs", "examples", "tests", suffixes=(".md",)))
for document in documents:
    report.looked_at += 1
    for at, fault in faults_of(document, lint.text(document), read_file):
        report.say(document, at, fault)
report.end("documents")
