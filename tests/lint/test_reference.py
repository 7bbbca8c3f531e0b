# SPDX-License-Identifier: BSD-3-Clause
"""
docs/OPTIONS.md, docs/ERRORS.md and docs/STATISTICS.md are what the public headers say.

Changes a copy first, so that it is known to fail.
"""
import os
import shutil
import subprocess
import sys
import tempfile

import lint

PLANTS = [("include/pcache/config.h", 'U64, 70, 0, 90', 'U64, 71, 0, 90'), ("include/pcache/errors.h", "cache is full; let", "cache is full; please let"),
          ("include/pcache/io.h", "#PCACHE_E_TOO_BIG if", "#PCACHE_E_RANGE if"), ("include/pcache/info.h", "GAUGE, \"bytes\", ALWAYS, \"cache block", "COUNTER, \"bytes\", ALWAYS, \"cache block"), ("docs/OPTIONS.md", "# Options", "# Choices")]


def check(root):
    run = subprocess.run([sys.executable, os.path.join(lint.ROOT, "docs/reference.py"), "--check"], capture_output=True, text=True,
                         env={**os.environ, "PCACHE_SOURCE_DIR": root}, check=False)
    return run.returncode, run.stdout + run.stderr


unseen = 0
for path, old, new in PLANTS:
    with tempfile.TemporaryDirectory() as copy:
        for folder in ("include", "docs"):
            shutil.copytree(os.path.join(lint.ROOT, folder), os.path.join(copy, folder))
        with open(os.path.join(copy, path), encoding="utf-8") as f:
            text = f.read()
        if old not in text:
            print(f"{path}: nothing to plant in")
            unseen += 1
            continue
        with open(os.path.join(copy, path), "w", encoding="utf-8") as f:
            f.write(text.replace(old, new, 1))
        if check(copy)[0] == 0:
            print(f"does not see the change of {path}")
            unseen += 1
code, said = check(lint.ROOT)
print(said, end="")
print(f"{len(PLANTS)} faults planted, {unseen} not seen")
sys.exit(1 if code or unseen else 0)
