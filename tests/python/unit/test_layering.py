# SPDX-License-Identifier: Apache-2.0
"""Arrows point one way: python/lamps_vllm -> lamps_ext -> csrc. Read from imports and includes."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "python" / "lamps_vllm"
CORE = sorted(path for path in (ROOT / "csrc").rglob("*") if path.suffix in {".h", ".cc"})
BINDING = sorted(path for path in (ROOT / "lamps_ext").iterdir() if path.suffix in {".h", ".cc"})
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)
NOT_FOR_THE_CORE = re.compile(r"Python\.h|pybind11|nanobind|torch|ATen|c10|vllm|lamps_ext")
WAITS = {"mover.cc", "mover_thread.cc"}  # need durations for how long a thread may sleep
HEAVY = {"vllm", "torch", "transformers", "matplotlib"}

pytestmark = pytest.mark.skipif(not CORE, reason="needs the sources of the C++ core")


def _includes(path: Path) -> Iterator[tuple[str, str]]:
    for match in INCLUDE.finditer(path.read_text(encoding="utf-8")):
        yield match[1], match[2]


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_core_knows_no_python(path: Path):
    for _, included in _includes(path):
        assert not NOT_FOR_THE_CORE.search(included), f"{path.name} includes {included}"


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_core_includes_itself_by_full_name(path: Path):
    for quote, included in _includes(path):
        if quote == '"':
            assert (ROOT / "csrc" / included).is_file(), f'{path.name} includes "{included}"'


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_core_reads_no_clock_and_prints_nothing(path: Path):
    banned = {"ctime", "time.h", "iostream", "cstdio"}
    if path.name not in WAITS:
        banned.add("chrono")
    assert "_clock" not in path.read_text(encoding="utf-8"), f"{path.name} reads a clock"
    for _, included in _includes(path):
        assert included not in banned, (
            f"{path.name} includes {included}: time is an argument, and the core has no output"
        )


def test_binding_sees_only_core_and_pybind11():
    names = {path.name for path in BINDING}
    for path in BINDING:
        for quote, included in _includes(path):
            ours = ("pybind11/", "lamps/", "sim/", "swap/")
            known = included in names or included.startswith(ours)
            assert known or quote == "<", f'{path.name} includes "{included}"'
            assert not re.search(r"torch|ATen|vllm", included), f"{path.name} includes {included}"


def test_lamps_ext_imports_nothing_of_the_package():
    for path in (ROOT / "lamps_ext").glob("*.py*"):
        if path.suffix in {".py", ".pyi"}:
            imported = set(_imports(ast.parse(path.read_text(encoding="utf-8"))))
            roots = {name.partition(".")[0] for name in imported}
            assert not roots & {"lamps_vllm", *HEAVY}, f"{path.name} imports {sorted(imported)}"


def test_native_module_is_reached_through_lamps_ext_only():
    for path in PACKAGE.rglob("*.py"):
        for name in _imports(ast.parse(path.read_text(encoding="utf-8"))):
            assert not name.startswith("lamps_ext."), f"{path.name} imports {name}"


@pytest.mark.parametrize("module", ["lamps_vllm", "lamps_ext", "lamps_vllm.cli.app"])
def test_vllm_is_imported_as_late_as_possible(module: str):
    """`lamps --help` and `lamps replay` must start at once, and without a vLLM."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & HEAVY
