# SPDX-License-Identifier: BSD-3-Clause
"""
The static probes of the library, their names and numbers of arguments, are those of docs/PROBES.md, and the other way round. Skipped where the build has none. A probe that is in the page
alone is planted first, to know that it is missed.
"""
import glob
import os
import re
import subprocess
import sys

import lint

library = sorted(glob.glob(os.path.join(os.environ["PCACHE_BUILD_DIR"], "**/libpcache.so*"), recursive=True))
if not library:
    sys.exit(77)
notes = subprocess.run(["readelf", "-nW", library[0]], capture_output=True, text=True, check=True).stdout
built = {}
for name, arguments in re.findall(r"Provider: pcache\s+Name: (\w+)\s+Location:[^\n]*\n\s+Arguments: ?([^\n]*)", notes):
    built.setdefault(name, set()).add(len(arguments.split()))
if not built:
    print("skipped: built without sys/sdt.h")
    sys.exit(77)
with open(os.path.join(lint.ROOT, "docs/PROBES.md"), encoding="utf-8") as f:
    page = {name: {len(arguments.split(","))} for name, arguments in re.findall(r"^\| `(\w+)` \| ([^|]+) \|", f.read(), re.M)}


def differences(documented):
    return [f"{name}: arguments by the page {documented.get(name, 'none')}, in the library {built.get(name, 'none')}"
            for name in sorted(set(documented) | set(built)) if documented.get(name) != built.get(name)]


if len(differences({**page, "planted": {1}})) != len(differences(page)) + 1:
    sys.exit("a planted probe is not missed")
for line in differences(page):
    print(line)
sys.exit(1 if differences(page) else 0)
