# SPDX-License-Identifier: BSD-3-Clause
"""The licence line stands first in every file, and a .c file of src/ opens with a comment on its job."""
import re

import lint

SPDX = "SPDX-License-Identifier: BSD-3-Clause"
COMMENT_LINES_MIN = 4

report = lint.Report()
for path in lint.files("src", "include", "tests", "examples", suffixes=(".c", ".h", ".sh", ".py", ".map")):
    report.looked_at += 1
    source = lint.text(path)
    if SPDX not in "\n".join(source.split("\n")[:2]):
        report.say(path, 1, f"does not begin with {SPDX}")
    if path.startswith("src/") and path.endswith(".c"):
        opening = re.match(r"/\*[^\n]*\*/\s*/\*.*?\*/", source, re.S)
        if not opening or opening.group(0).count("\n") < COMMENT_LINES_MIN:
            report.say(path, 2, "does not open with a comment of its job, locks and orders")
report.end("files")
