# SPDX-License-Identifier: BSD-3-Clause
"""
A file of src/ includes only folders of lower rank, tool and examples only the public headers. Foreign libraries have one user each, and
nothing below the tool prints.
"""
import re

import lint

RANK = {"base": 0, "media": 1, "format": 1, "layout": 2, "alloc": 3, "index": 3, "backing": 3, "log": 4, "core": 5, "recovery": 6,
        "service": 6, "api": 7}
ONLY_BASE = {"index", "backing", "format", "media"}
FOREIGN = [  # header, files that may include it
    (r"libpmem2.*", r"src/media/.*"),
    (r"(isa-l.*|crc(64)?\.h|isal.*)", r"src/base/crc[a-z0-9_]*\.c"),
    (r"libnbd.*", r"src/nbd/.*"),
    (r"liburing.*", r"src/(backing/.*|tool/bench_writer\.c)"),
]
COMPONENTS = {"nbd"}  # libraries beside libpcache, on the public headers alone
READERS_OF_MEDIA = re.compile(r"src/tool/(cmd_)?(dump|check)[a-z0-9_]*\.[ch]")
# Text for a FILE of the caller's choice (to_text) is no printing.
PRINTS = re.compile(r"\b(v?printf|v?dprintf|puts|putchar|perror|psignal)\s*\(|\b(stdout|stderr)\b")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def allowed(path, folder, target):
    """Why this file may not include "target/...", or None."""
    if target in ("pcache", folder):
        return None
    if folder in COMPONENTS:
        return f"{folder}/ sits on the public headers, it may not include {target}/"
    if target != "tool" and target not in RANK:
        return f'"{target}/" is no folder of src/; includes are written from src/'
    if folder == "tool":
        if READERS_OF_MEDIA.fullmatch(path) and target in ("base", "format", "media"):
            return None
        return f"the tool sits on the public headers, it may not include {target}/"
    if target == "tool" or RANK[target] >= RANK[folder]:
        return f"{folder}/ (rank {RANK[folder]}) may not include {target}/: it is not of lower rank"
    if folder in ONLY_BASE and target != "base":
        return f"{folder}/ may include base/ and the public headers only"
    return None


report = lint.Report()
for path in lint.files("src", "examples"):
    report.looked_at += 1
    source = lint.text(path)
    parts = path.split("/")
    folder = parts[1] if parts[0] == "src" else "examples"
    if parts[0] == "src" and (len(parts) != 3 or (folder != "tool" and folder not in COMPONENTS and folder not in RANK)):
        report.say(path, 1, "not in a folder of the layer table")
        continue
    for match in INCLUDE.finditer(lint.without_comments(source, strings=False)):
        line = source.count("\n", 0, match.start()) + 1
        name = match.group(2)
        for header, users in FOREIGN:
            if re.fullmatch(header, name) and not re.fullmatch(users, path):
                report.say(path, line, f"<{name}> may be included by {users} only")
        if match.group(1) == "<":
            continue
        why = None
        if folder == "examples":
            if "src/" in name or name.split("/")[0] in RANK:
                why = "a front-end sits on the public headers"
        elif "/" not in name or name.startswith("."):
            why = f'"{name}": includes are written from src/'
        else:
            why = allowed(path, folder, name.split("/")[0])
        if why:
            report.say(path, line, why)
    if folder not in ("tool", "examples"):
        for match in PRINTS.finditer(lint.without_comments(source)):
            report.say(path, source.count("\n", 0, match.start()) + 1, f"the library prints nothing: {match.group(0)}")
report.end("files")
