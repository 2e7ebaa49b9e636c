# SPDX-License-Identifier: Apache-2.0
"""The servers a comparison runs: built-in arms by name, and the commands that start them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamps_vllm.pace import CONFIG_KEY, load_profile
from lamps_vllm.replay.records import Identity
from lamps_vllm.replay.tiny_model import SERVE_FLAGS, write_tiny_model

VLLM = (sys.executable, "-m", "lamps_vllm.cli.serve", "serve")
LAMPS = (sys.executable, "-m", "lamps_vllm.cli", "serve")
OPTIONS = "{options}"
ADDITIONAL_CONFIG = "--additional-config"
WORKER = "lamps_vllm.paced.PacedCPUWorker"


class ArmError(ValueError):
    """An arm is not a known name nor a usable command."""


@dataclass(frozen=True)
class Arm:
    """One way to serve. `command` may hold {model}, {port} and an {options} word of its own."""

    name: str
    command: tuple[str, ...]
    identity: Identity = Identity.SESSION_ID


def _built_in(
    name: str, launcher: Sequence[str], identity: Identity, extra: Sequence[str] = ()
) -> Arm:
    return Arm(name, (*launcher, "{model}", "--port", "{port}", OPTIONS, *extra), identity)


BUILT_IN = {
    arm.name: arm
    for arm in (
        _built_in("stock", VLLM, Identity.SESSION_ID),
        _built_in("priority", VLLM, Identity.PRIORITY, ("--scheduling-policy", "priority")),
        _built_in("lamps", LAMPS, Identity.SESSION_ID),
        _built_in("lamps-no-id", LAMPS, Identity.NONE),
        _built_in("lamps-tools", LAMPS, Identity.TOOLS),
        _built_in("lamps-oracle", LAMPS, Identity.ORACLE),
    )
}


def parse_arm(text: str) -> Arm:
    """An arm from `NAME`, `NAME=BUILT-IN [vLLM options]` or `NAME=COMMAND`. Raises ArmError.

    A command must place {port}; {model} and {options} (the options common to all arms) are
    replaced too.
    """
    name, separator, rest = text.partition("=")
    if not separator:
        if name not in BUILT_IN:
            raise ArmError(f"arm {name!r}: known are {', '.join(BUILT_IN)}, or NAME=COMMAND")
        return BUILT_IN[name]
    words = shlex.split(rest)
    if not name or not words:
        raise ArmError(f"arm {text!r}: expected NAME=COMMAND")
    if words[0] in BUILT_IN:
        base = BUILT_IN[words[0]]
        return Arm(name, (*base.command, *words[1:]), base.identity)
    if not any("{port}" in word for word in words):
        raise ArmError(f"arm {name!r}: its command must hold {{port}}, e.g. --port {{port}}")
    return Arm(name, tuple(words))


@dataclass(frozen=True)
class Deployment:
    """What every arm of a comparison serves, and on what terms.

    `model` None is the tiny dummy-weight model. `kv_blocks` blocks of `block_size` tokens make
    memory scarce on purpose. `pace` names a profile of step times; None runs at real speed.
    """

    model: str | None = None
    block_size: int | None = 32
    kv_blocks: int | None = 140
    max_model_len: int | None = 2048
    pace: str | None = "cpu-demo"
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pace is not None:
            load_profile(self.pace)

    def model_path(self) -> str:
        """The model to serve; writes the tiny one where none was named."""
        return self.model or str(write_tiny_model())

    def options(self) -> list[str]:
        """vLLM options common to all arms, without the port."""
        numbers = {
            "--block-size": self.block_size,
            "--num-gpu-blocks-override": self.kv_blocks,
            "--max-model-len": self.max_model_len,
        }
        options = ["--host", "127.0.0.1", "--enable-prompt-tokens-details"]
        # Without a moment to stop, vLLM kills its engine and the worker's last words are lost.
        options += ["--disable-uvicorn-access-log", "--shutdown-timeout", "10"]
        for flag, number in numbers.items():
            options += [flag, str(number)] if number is not None else []
        if self.model is None:
            options += [*SERVE_FLAGS, "--enforce-eager"]
        if self.pace is not None:
            pace = self.pace
            if Path(pace).is_file():
                pace = str(Path(pace).resolve())
            options += ["--worker-cls", WORKER, ADDITIONAL_CONFIG, json.dumps({CONFIG_KEY: pace})]
        return [*options, *self.extra]

    def describe(self) -> str:
        """One honest line for tables and plots."""
        model = self.model or "2-layer model with random weights"
        speed = f"step times of profile {self.pace}" if self.pace else "real speed"
        memory = ""
        if self.kv_blocks and self.block_size:
            memory = f", KV for {self.kv_blocks * self.block_size} tokens"
        return f"{model}, {speed}{memory}"


def _merge_additional_config(words: Sequence[str]) -> list[str]:
    """Joins repeated `--additional-config JSON` pairs: vLLM would keep only the last one.

    Later ones win key by key. Raises ArmError on anything but JSON objects.
    """
    merged: dict[str, object] = {}
    others: list[str] = []
    remaining = iter(words)
    for word in remaining:
        flag, separator, value = word.partition("=")
        if flag.replace("_", "-") != ADDITIONAL_CONFIG:
            others.append(word)
            continue
        text = value if separator else next(remaining, "")
        try:
            merged |= json.loads(text)
        except (ValueError, TypeError) as error:
            raise ArmError(f"{ADDITIONAL_CONFIG} {text}: expected a JSON object") from error
    return [*others, ADDITIONAL_CONFIG, json.dumps(merged)] if merged else others


def command_line(arm: Arm, deployment: Deployment, port: int) -> list[str]:
    """The argument vector that starts `arm` on `port`."""
    model = deployment.model_path()
    words: list[str] = []
    for word in arm.command:
        if word == OPTIONS:
            words += deployment.options()
        else:
            words.append(word.replace("{model}", model).replace("{port}", str(port)))
    return _merge_additional_config(words)
