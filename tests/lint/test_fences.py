# SPDX-License-Identifier: BSD-3-Clause
"""Every call that makes stores durable says, at most 4 lines above or on its line, which order it keeps and why."""
import re

import lint

CALL = re.compile(r"\bpc_media_(fence|sync|commit)\s*\(")
LINES_ABOVE = 4

report = lint.Report()
for path in lint.files("src"):
    report.looked_at += 1
    if path.startswith("src/media/"):
        continue
    source = lint.text(path)
    lines = source.split("\n")
    for match in CALL.finditer(lint.without_comments(source)):
        line = source.count("\n", 0, match.start())
        if not any("Order:" in near for near in lines[max(0, line - LINES_ABOVE):line + 1]):
            report.say(path, line + 1, f"pc_media_{match.group(1)}() without an Order: comment")
report.end("files")
