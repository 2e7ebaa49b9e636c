# SPDX-License-Identifier: Apache-2.0
"""Arms of a comparison: names, commands, the options all of them share."""

from __future__ import annotations

import json

import pytest

from lamps_vllm.pace import PaceError
from lamps_vllm.replay.arms import BUILT_IN, Arm, ArmError, Deployment, command_line, parse_arm
from lamps_vllm.replay.comparison import Plan
from lamps_vllm.replay.records import Identity
from lamps_vllm.replay.tiny_model import tiny_config, write_tiny_model
from lamps_vllm.replay.workload import Segment, Session, Workload

DEPLOYMENT = Deployment(model="some/model")


def values(command: list[str], flag: str) -> list[str]:
    return [command[index + 1] for index, word in enumerate(command) if word == flag]


def test_built_in_arms():
    stock = command_line(parse_arm("stock"), DEPLOYMENT, 8123)
    assert stock[1:5] == ["-m", "lamps_vllm.cli.serve", "serve", "some/model"]
    assert values(stock, "--port") == ["8123"]
    priority = command_line(parse_arm("priority"), DEPLOYMENT, 8123)
    assert values(priority, "--scheduling-policy") == ["priority"]
    assert parse_arm("priority").identity is Identity.PRIORITY
    lamps = command_line(parse_arm("lamps"), DEPLOYMENT, 8123)
    assert lamps[1:4] == ["-m", "lamps_vllm.cli", "serve"]
    assert parse_arm("lamps-no-id").identity is Identity.NONE
    assert parse_arm("lamps-tools").identity is Identity.TOOLS
    assert parse_arm("lamps-oracle").identity is Identity.ORACLE
    assert lamps[4:] == stock[5 - 1 :]


def test_variant_of_a_built_in_arm():
    arm = parse_arm('eager=lamps --additional-config \'{"lamps": {"preserve": false}}\'')
    command = command_line(arm, DEPLOYMENT, 1)
    assert arm.name == "eager"
    assert [json.loads(text) for text in values(command, "--additional-config")] == [
        {"lamps_pace": "cpu-demo", "lamps": {"preserve": False}}
    ]


def test_command_of_the_users_own():
    arm = parse_arm("mine=run-server {model} --port={port} {options} --last")
    command = command_line(arm, Deployment(model="m", pace=None, kv_blocks=None), 77)
    assert command[:3] == ["run-server", "m", "--port=77"]
    assert values(command, "--block-size") == ["32"]
    assert "--num-gpu-blocks-override" not in command
    assert "--worker-cls" not in command
    assert command[-1] == "--last"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fast", r"arm 'fast': known are stock, priority, lamps, lamps-no-id"),
        ("x=", r"expected NAME=COMMAND"),
        ("=stock", r"expected NAME=COMMAND"),
        ("x=server {model}", r"must hold \{port\}"),
    ],
)
def test_bad_arm(text, message):
    with pytest.raises(ArmError, match=message):
        parse_arm(text)


def test_bad_additional_config():
    with pytest.raises(ArmError, match="expected a JSON object"):
        command_line(parse_arm("x=lamps --additional-config nonsense"), DEPLOYMENT, 1)


def test_unknown_pace_is_found_before_a_server_starts():
    with pytest.raises(PaceError, match="cpu-demo"):
        Deployment(pace="warp")


def test_description_is_honest_about_what_is_simulated():
    text = Deployment().describe()
    assert "random weights" in text
    assert "step times of profile cpu-demo" in text
    assert "4480 tokens" in text
    assert "real speed" in Deployment(model="m", pace=None).describe()


def test_arm_order_rotates():
    arms = [BUILT_IN["stock"], BUILT_IN["priority"], BUILT_IN["lamps"]]
    plan = Plan(arms=arms, workloads=[None] * 4, deployment=DEPLOYMENT, folder=None, title="")
    order = [(repeat, arm.name[0]) for repeat, arm in plan.order()]
    assert "".join(name for _, name in order) == "spl" + "pls" + "lsp" + "spl"
    assert [repeat for repeat, _ in order] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


def test_clients_of_an_arm_may_expect_something_else():
    workload = Workload.of(
        [Session(id="a", arrival=0.0, segments=(Segment(prompt_tokens=4, output_tokens=2),))]
    )
    other = workload.scaled(rate_factor=2.0)
    arms = [Arm("told", ()), Arm("untold", ())]
    plan = Plan(arms=arms, workloads=[workload], deployment=DEPLOYMENT, folder=None, title="",
                telling={"told": lambda each: other if each is workload else each})  # fmt: skip
    assert [plan.workload_for(arm, 0) for arm in arms] == [other, workload]


def test_tiny_model_is_written_once(tmp_path):
    folder = write_tiny_model(tmp_path / "tiny")
    config = folder / "config.json"
    assert json.loads(config.read_text()) == tiny_config()
    before = config.stat().st_mtime_ns
    assert write_tiny_model(folder) == folder
    assert config.stat().st_mtime_ns == before
