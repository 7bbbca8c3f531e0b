#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""
Shows Doxygen what the tables of the public headers make: PCACHE_x_TABLE(PCACHE_x_ENUM) in an enum becomes one documented value per
row. Lines keep their numbers. Of README.md it shows links to files of the source tree, which are no part of the reference, as paths.
"""
import re
import sys

with open(sys.argv[1], encoding="utf-8") as f:
    source = f.read()

if sys.argv[1].endswith(".md"):
    source = re.sub(r"\[[^]]*\]\((?!https?:)([^)]+)\)", r"`\1`", source)
joined = source.replace("\\\n", " ")
for table, rows in re.findall(r"#define (PCACHE_\w+_TABLE)\(X\)([^\n]*)", joined):
    values = []
    for row in re.findall(r"\bX\(((?:[^()\"]|\"(?:\\.|[^\"])*\"|\([^()]*\))*)\)", rows):
        fields = re.findall(r"\"(?:\\.|[^\"])*\"(?:\s*\"(?:\\.|[^\"])*\")*|[^,\"\s][^,\"]*\([^)]*\)|[^,\"\s][^,]*", row)
        doc = re.sub(r'"\s*"', "", fields[-1]).strip().strip('"')
        if table == "PCACHE_ERROR_TABLE":
            text = re.sub(r'"\s*"', "", fields[2]).strip().strip('"')
            values.append(f"{fields[0]} = {fields[1].strip()} /**< {text}. {doc} */")
        else:
            kind = re.sub(r'"', "", fields[2])
            values.append(f"{fields[0]} /**< {fields[1].strip()}, {kind}: {doc} */")
    # The comma stands before the comment, or the comment would belong to the next value.
    text = " ".join(value.replace(" /**<", ", /**<", 1) for value in values)
    source = re.sub(r"^(\s*)" + table + r"\(PCACHE_\w+_ENUM\),?", lambda m: m.group(1) + text, source, flags=re.M)
sys.stdout.write(source)
