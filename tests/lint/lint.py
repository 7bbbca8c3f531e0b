# SPDX-License-Identifier: BSD-3-Clause
"""What the lints share: the source files, their text without comments, and the way to report."""
import os
import re
import sys

ROOT = os.environ.get("PCACHE_SOURCE_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def files(*folders, suffixes=(".c", ".h")):
    """Paths, relative to the root, of all files of these folders and below."""
    for folder in folders:
        for path, _, names in sorted(os.walk(os.path.join(ROOT, folder))):
            for name in sorted(names):
                if name.endswith(suffixes):
                    yield os.path.relpath(os.path.join(path, name), ROOT)


def text(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def without_comments(source, strings=True):
    """The same text with every comment (and, unless strings is False, every string) blanked; lines keep their numbers."""

    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0)) if match.group(0)[0] == "/" or strings else match.group(0)

    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, source, flags=re.S)


class Report:
    def __init__(self):
        self.nr = 0
        self.looked_at = 0

    def say(self, path, line, what):
        self.nr += 1
        print(f"{path}:{line}: {what}")

    def end(self, unit):
        print(f"{self.looked_at} {unit} looked at, {self.nr} faults")
        if self.looked_at == 0:
            print("nothing was looked at: the lint is broken")
        sys.exit(1 if self.nr or self.looked_at == 0 else 0)
