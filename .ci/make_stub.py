# SPDX-License-Identifier: Apache-2.0
"""Write the type stub of lamps_ext._core, from the built module.

Usage: .venv/bin/python .ci/make_stub.py lamps_ext/_core.pyi
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = "lamps_ext._core"
HEADER = """\
# SPDX-License-Identifier: Apache-2.0
# Generated from the module by `make stub`; a test compares the two.
"""


def stub_text() -> str:
    """The stub as it should be checked in. Raises CalledProcessError if it cannot be made."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["pybind11_stubgen", MODULE, "--output-dir", folder, "--exit-code"]
        command += ["--numpy-array-use-type-var"]
        _python(command, "")
        generated = Path(folder, *MODULE.split(".")).with_suffix(".pyi").read_text("utf-8")
    return _python(["ruff", "format", "--stdin-filename", "_core.pyi", "-"], HEADER + generated)


def _python(module_and_arguments: list[str], stdin: str) -> str:
    command = [sys.executable, "-m", *module_and_arguments]
    done = subprocess.run(
        command, input=stdin, cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(stub_text(), encoding="utf-8")
