# SPDX-License-Identifier: BSD-3-Clause
"""The public functions, as their headers have them: prototypes, and the error codes that each call lists. For docs/reference.py and tests/codes."""
import glob
import os
import re


COMPONENTS = ("nbd.h",)  # of libraries beside libpcache


def functions(root, components=COMPONENTS):
    """Name -> (return type, parameters, comment) of each exported function of libpcache."""
    found = {}
    for path in sorted(glob.glob(os.path.join(root, "include/pcache/*.h"))):
        if os.path.basename(path) in components:
            continue
        with open(path, encoding="utf-8") as f:
            text = f.read()
        for comment, kind, name, parameters in re.findall(r"/\*\*((?:(?!\*/).)*)\*/\s*PCACHE_API\s([^;(]*?)(pcache_\w+)\(([^;]*?)\);", text, re.S):
            found[name] = (" ".join(kind.split()), " ".join(parameters.split()), comment)
    return found


def listed_codes(found):
    """Name -> codes that its @return names, -E... and PCACHE_E_...; "as pcache_x()" is followed."""
    own = {}
    for name, (_, _, comment) in found.items():
        text = comment.partition("@return")[2] or comment
        own[name] = (set(re.findall(r"PCACHE_E_\w+|(?<!\w)-E[A-Z0-9]+", text)), re.findall(r"[Aa]s (pcache_\w+)\(\)", text))

    def codes(name):
        mine, others = own.get(name, (set(), []))
        return mine.union(*(codes(o) for o in others if o != name))
    return {name: codes(name) for name in found}
