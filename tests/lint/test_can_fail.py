# SPDX-License-Identifier: BSD-3-Clause
"""Each lint is run on a copy of the sources with one planted fault, and has to name it."""
import os
import shutil
import subprocess
import sys
import tempfile

import lint

HERE = os.path.dirname(os.path.abspath(__file__))
HEAD = "/* SPDX-License-Identifier: BSD-3-Clause */\n/*\n * A file\n * with\n * a job.\n */\n"
PLANTS = [  # lint, file, what is written there, what the lint has to say
    ("test_layers.py", "src/base/planted.c", HEAD + '#include "media/media.h"\n', "not of lower rank"),
    ("test_layers.py", "src/media/planted.c", HEAD + '#include "format/format.h"\n', "not of lower rank"),
    ("test_layers.py", "src/index/planted.c", HEAD + '#include "media/media.h"\n', "base/ and the public headers only"),
    ("test_layers.py", "src/core/planted.c", HEAD + '#include "../base/types.h"\n', "written from src/"),
    ("test_layers.py", "src/core/planted.c", HEAD + "#include <libpmem2.h>\n", "src/media/.* only"),
    ("test_layers.py", "src/format/planted.c", HEAD + "#include <isa-l/crc.h>\n", "<isa-l/crc.h> may be included"),
    ("test_layers.py", "src/tool/planted.c", HEAD + '#include "format/format.h"\n', "sits on the public headers"),
    ("test_layers.py", "src/tool/dump_planted.c", HEAD + '#include "core/write.h"\n', "sits on the public headers"),
    ("test_layers.py", "examples/planted.c", HEAD + '#include "base/types.h"\n', "sits on the public headers"),
    ("test_layers.py", "src/core/planted.c", HEAD + 'void f(void)\n{\n\tfprintf(stderr, "x");\n}\n', "prints nothing"),
    ("test_layers.py", "src/planted/planted.c", HEAD, "not in a folder of the layer table"),
    ("test_fences.py", "src/core/planted.c", HEAD + "void f(struct pc_media *m)\n{\n\tpc_media_fence(m);\n}\n", "without an Order:"),
    ("test_fences.py", "src/log/planted.c", HEAD + "int f(struct pc_media *m)\n{\n\treturn pc_media_commit(m);\n}\n", "without an Order:"),
    ("test_style.py", "src/core/planted.c", "int planted;\n", "does not begin with"),
    ("test_style.py", "src/core/planted.c", HEAD.split("\n")[0] + "\nint planted;\n", "does not open with"),
    ("test_sizes.py", "examples/planted.bin", "x" * (256 * 1024 + 1), "more than 262144"),
    ("test_headers.sh", "include/pcache/planted.h", "static inline size_t planted(void)\n{\n\treturn 0;\n}\n", "planted.h"),
    ("test_headers.sh", "include/pcache/planted.h", "int planted(int class, int new);\n", "-x c++"),
    ("test_exports.py", "include/pcache/planted.h", "PCACHE_API int pcache_planted(void);\n", "pcache_planted is declared but not there"),
]

faults = 0
for name, path, content, expected in PLANTS:
    if name == "test_exports.py" and os.environ.get("PCACHE_SANITIZE"):
        continue
    with tempfile.TemporaryDirectory() as copy:
        for folder in ("src", "include", "examples"):
            shutil.copytree(os.path.join(lint.ROOT, folder), os.path.join(copy, folder))
        os.makedirs(os.path.dirname(os.path.join(copy, path)), exist_ok=True)
        with open(os.path.join(copy, path), "w", encoding="utf-8") as f:
            f.write(content)
        run = subprocess.run([sys.executable if name.endswith(".py") else "sh", os.path.join(HERE, name)], capture_output=True, text=True,
                             env={**os.environ, "PCACHE_SOURCE_DIR": copy}, check=False)
    if run.returncode == 0 or expected not in run.stdout:
        faults += 1
        print(f"{name} does not see the fault in {path} ({expected}):\n{run.stdout}{run.stderr}")
print(f"{len(PLANTS)} faults planted, {faults} not seen")
sys.exit(1 if faults else 0)
