# SPDX-License-Identifier: Apache-2.0
"""The checked-in stub is what the built module offers: no change of the API goes unseen."""

import difflib
import importlib.util
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CHECKED_IN = ROOT / "lamps_ext" / "_core.pyi"
GENERATOR = ROOT / ".ci" / "make_stub.py"


def _stub_text() -> str:
    spec = importlib.util.spec_from_file_location("make_stub", GENERATOR)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.stub_text()


@pytest.mark.skipif(not GENERATOR.is_file(), reason="needs the checkout")
def test_stub_matches_the_module():
    try:
        generated = _stub_text()
    except subprocess.CalledProcessError as error:
        pytest.fail(f"no stub could be made:\n{error.stdout}\n{error.stderr}")
    old = CHECKED_IN.read_text(encoding="utf-8").splitlines(keepends=True)
    new = generated.splitlines(keepends=True)
    difference = "".join(difflib.unified_diff(old, new, "lamps_ext/_core.pyi", "built module"))
    assert not difference, (
        f"\n{difference}\nThe API of lamps_ext._core differs from its checked-in stub. If that is "
        "intended, run `make stub`, read the change and commit it. (Written with pybind11 3.1 and "
        f"pybind11-stubgen 3.0; here: stubgen {version('pybind11-stubgen')}.)"
    )
