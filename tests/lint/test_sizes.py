# SPDX-License-Identifier: BSD-3-Clause
"""No file of the tree is above 256 KiB: what is larger is generated, or does not belong into the history."""
import os
import subprocess

import lint

LIMIT_BYTES = 256 << 10


def tree():
    """What git knows; where there is no git (a release), everything but what builds leave behind."""
    try:
        out = subprocess.run(["git", "-C", lint.ROOT, "ls-files", "-z"], capture_output=True, check=True).stdout
        names = [name for name in out.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = []
    if names:
        return names
    skip = ("build", ".git", ".cache")
    found = []
    for path, folders, files in sorted(os.walk(lint.ROOT)):
        folders[:] = [name for name in folders if name not in skip]
        found += [os.path.relpath(os.path.join(path, name), lint.ROOT) for name in files]
    return found


report = lint.Report()
for path in tree():
    full = os.path.join(lint.ROOT, path)
    if os.path.islink(full) or not os.path.isfile(full):
        continue
    report.looked_at += 1
    size = os.stat(full).st_size
    if size > LIMIT_BYTES:
        report.say(path, 1, f"{size} bytes, more than {LIMIT_BYTES}")
report.end("files")
