#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""
Writes docs/OPTIONS.md, docs/ERRORS.md, docs/EVENTS.md and docs/STATISTICS.md out of the tables and comments of the public headers: python3 docs/reference.py [--check].
With --check nothing is written; exit status 1 says that a page is not what the headers say.
"""
import os
import re
import sys

sys.dont_write_bytecode = True
import headers  # noqa: E402  pylint: disable=wrong-import-position

ROOT = os.environ.get("PCACHE_SOURCE_DIR") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STRING = r'"(?:\\.|[^"\\])*"'
WHEN = {"FORMAT": "format", "OPEN": "open", "FORMAT_AND_OPEN": "format, open", "LIVE": "open, while open", "FORMAT_AND_LIVE": "format, open, while open"}


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def rows(path, table):
    """The rows of a table as lists of fields; neighbouring strings are one, ENUM("a,b") is one field."""
    joined = read(path).replace("\\\n", " ")
    body = re.search(r"#define " + table + r"\(X\)([^\n]*)", joined).group(1)
    for row in re.findall(r"\bX\(((?:" + STRING + r"|\([^()]*\)|[^()\"])*)\)", body):
        fields = re.findall(r"(?:" + STRING + r"\s*)+|[A-Z_a-z]\w*\([^)]*\)|[-\w]+", row)
        yield ["".join(s[1:-1] for s in re.findall(STRING, f)) if f.startswith('"') else f for f in fields]


def size(number, kind):
    if number == "UINT64_MAX":
        return "none"
    value = int(number)
    for shift, suffix in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if kind == "BYTES" and value and value % (1 << shift) == 0:
            return f"{value >> shift}{suffix}"
    return str(value)


def option_values(kind, lo, hi, unit):
    if kind.startswith("ENUM"):
        return ", ".join(f"`{w}`" for w in re.search(r'"([^"]*)"', kind).group(1).split(","))
    if kind == "BOOL":
        return "`off`, `on`"
    high = size(hi, kind)
    text = f"{size(lo, kind)} or more" if high == "none" else f"{size(lo, kind)} to {high}"
    return text + (f" {unit}" if unit else "")


def default_text(kind, value):
    if kind.startswith("ENUM"):
        return re.search(r'"([^"]*)"', kind).group(1).split(",")[int(value)]
    return ("off", "on")[int(value)] if kind == "BOOL" else size(value, kind)


def options_page():
    lines = ["# Options", "",
             "Each option of a cache, by the name that `pcache_config_set_str()`, `pcache_config_parse()`, the `pcache` command and the front-ends know it by. Made from",
             "`include/pcache/config.h` by `docs/reference.py`; a program gets the same from `pcache_option_describe()`.", "",
             "Bytes take the suffixes K, M, G and T, powers of 1024. *format* is `pcache_format()`, *open* is `pcache_open()`, *while open* is `pcache_option_set()`; what is in force on an",
             "open cache is what `pcache_option_get()` says.", "",
             "| option | values | default | looked at | what it does |", "|---|---|---|---|---|"]
    for _, name, kind, default, lo, hi, unit, when, doc in rows("include/pcache/config.h", "PCACHE_OPTION_TABLE"):
        lines.append(f"| `{name}` | {option_values(kind, lo, hi, unit)} | {default_text(kind, default)} | {WHEN[when]} | {doc} |")
    return "\n".join(lines) + "\n"


def calls_by_code():
    by_code = {}
    for name, codes in headers.listed_codes(headers.functions(ROOT)).items():
        for code in codes:
            by_code.setdefault(code, []).append(name)
    return by_code


def errors_page():
    by_code = calls_by_code()
    lines = ["# Errors", "",
             "Every call returns 0, or a documented positive value, or a negative error. From -1 to -4095 it is an errno value, negated: of the system, or of your own backing, unchanged. Below that",
             "it is one of these. The texts are those of `pcache_strerror()` and `pcache_errcause()`. Made from `include/pcache/` by `docs/reference.py`.", ""]
    for name, value, text, cause in rows("include/pcache/errors.h", "PCACHE_ERROR_TABLE"):
        what, _, todo = text.partition("; ")
        calls = ", ".join(f"`{c}`" for c in sorted(by_code.get(name, [])))
        lines += [f"## {name} ({value})", "", f"{what[0].upper()}{what[1:]}.", "", f"- **Why:** {cause}", f"- **What to do:** {todo[0].upper()}{todo[1:]}.", f"- **From:** {calls}.", ""]
        if not calls:
            sys.exit(f"{name} is returned by no call")
    return "\n".join(lines[:-1]) + "\n"


def statistics_page():
    lines = ["# Statistics", "",
             "The numbers of `struct pcache_info`, as `pcache_info_get()`, `pcache_probe()` and `pcache info` show them. Made from `include/pcache/info.h` by `docs/reference.py`.", "",
             "A *counter* only grows, from 0 at open; a *gauge* goes up and down. What is not known of a *closed* cache is null in JSON, and left out of text and OpenMetrics, where each name begins",
             "with `pcache_` and a counter ends with `_total`. Numbers are read without stopping anyone, so they may be some operations apart.", "",
             "| number | kind | unit | of a closed cache | meaning |", "|---|---|---|---|---|"]
    for member, kind, unit, known, doc in rows("include/pcache/info.h", "PCACHE_STATISTIC_TABLE"):
        lines.append(f"| `{member}` | {kind.lower()} | {unit} | {'yes' if known == 'ALWAYS' else 'no'} | {doc} |")
    return "\n".join(lines) + "\n"


def events_page():
    lines = ["# Events", "",
             "What `pcache_config_set_event()` has told to a callback, when it happens. Made from `include/pcache/event.h` by `docs/reference.py`. The callback may come from any thread, never under",
             "a lock; struct pcache_event says more in `err`, `off`, `len` and `value`.", "",
             "| event | number | name | when, and what its members say |", "|---|---|---|---|"]
    for ident, number, name, doc in rows("include/pcache/event.h", "PCACHE_EVENT_TABLE"):
        lines.append(f"| `{ident}` | {number} | {name} | {doc} |")
    return "\n".join(lines) + "\n"


bad = 0
for page, text in (("docs/OPTIONS.md", options_page()), ("docs/ERRORS.md", errors_page()), ("docs/EVENTS.md", events_page()), ("docs/STATISTICS.md", statistics_page())):
    path = os.path.join(ROOT, page)
    if "--check" not in sys.argv[1:]:
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
    elif not os.path.exists(path) or read(page) != text:
        print(f"{page}: not what the headers say; run python3 docs/reference.py")
        bad = 1
sys.exit(bad)
