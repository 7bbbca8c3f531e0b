# SPDX-License-Identifier: BSD-3-Clause
"""The licence line stands first in every file, and a .c file of src/ opens with a comment on its job."""
import re

import lint

SPDX = "SPDX-License-Identifier: BSD-3-Clause"

report = lint.Report()
for path in lint.files("src", "include", "tests", "examples", suffixes=(".c", ".h", ".sh", ".py", ".map")):
    report.looked_at += 1
    source = lint.text(path)
    if SPDX not in "\n".join(source.split("\n")[:2]):
        report.say(path, 1, f"does not begin with {SPDX}")
    if path.startswith("src/") and path.endswith(".c"):
        if not re.match(r"/\*[^\n]*\*/\s*/\*", source):
            report.say(path, 2, "does not open with a comment on its job")
report.end("files")
