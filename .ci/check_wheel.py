# SPDX-License-Identifier: Apache-2.0
"""Build the wheel, look into it, and use it where there is neither vLLM nor this checkout.

For the interpreter that runs this, and for every other supported one on this machine: a clean
environment gets the wheel and its dependencies, imports the native module and runs `lamps`. The
former takes what the environment has built already, the others build as a user would, isolated
from it, but for speed: without optimisation and without the kernels, the same for each.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINORS = (11, 12, 13)
NATIVE_PREFIX, NATIVE_SUFFIX = "lamps_ext/_core.", ".so"
QUICK = ["-Ccmake.define.LAMPS_CUDA=OFF", "-Ccmake.define.CMAKE_CXX_FLAGS_RELEASE=-O0 -DNDEBUG"]
LARGEST_MB = 5.0  # 0.6 when written; debug information or a bundled data set would show


class WheelError(Exception):
    """The wheel is not as it should be."""


def run(*command, cwd: Path | None = None) -> str:
    """What `command` prints (both streams); raises WheelError with it if the command fails."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    if done.returncode:
        raise WheelError(f"{' '.join(map(str, command))}: status {done.returncode}\n{output}")
    return output


def expected_files() -> set[str]:
    """Every file of both packages that belongs into the wheel, besides the native module."""
    folders = {"lamps_vllm": ROOT / "python" / "lamps_vllm", "lamps_ext": ROOT / "lamps_ext"}
    wanted = {".py", ".pyi", ".json", ".jinja", ".typed"}
    return {
        str(Path(package, path.relative_to(folder)))
        for package, folder in folders.items()
        for path in folder.rglob("*")
        if path.suffix in wanted or path.name == "py.typed"
    }


def check_contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    native = {n for n in names if n.startswith(NATIVE_PREFIX) and n.endswith(NATIVE_SUFFIX)}
    if len(native) != 1:
        raise WheelError(f"{wheel.name} holds {sorted(native) or 'no native module'}, expected one")
    if missing := expected_files() - names:
        raise WheelError(f"{wheel.name} lacks {sorted(missing)}")
    if surplus := names - native - expected_files():
        raise WheelError(f"{wheel.name} holds what it should not: {sorted(surplus)}")
    if (megabytes := wheel.stat().st_size / 1e6) > LARGEST_MB:
        raise WheelError(f"{wheel.name} has {megabytes:.1f} MB, the limit is {LARGEST_MB}")


def check_use(wheel: Path, binaries: Path, folder: Path) -> list[str]:
    """In a fresh environment: import, `lamps --help`, `lamps doctor` without a vLLM."""
    run(binaries / "pip", "install", "--disable-pip-version-check", "--no-compile", wheel)
    code = "import lamps_ext; print(lamps_ext.build_info())"
    built = run(binaries / "python", "-c", code, cwd=folder).strip()
    if "serve" not in run(binaries / "lamps", "--help", cwd=folder):
        raise WheelError("`lamps --help` does not list the command serve")
    doctor = subprocess.run(
        [binaries / "lamps", "doctor"], cwd=folder, capture_output=True, text=True, check=False
    )
    said = doctor.stdout + doctor.stderr
    if "Traceback" in said or "vllm" not in said.lower() or doctor.returncode == 0:
        raise WheelError(f"`lamps doctor` without vLLM: status {doctor.returncode}\n{said}")
    return [built, "lamps doctor, as expected: " + _line_about_vllm(said)]


def _line_about_vllm(text: str) -> str:
    lines = [line.strip(" │|") for line in text.splitlines()]
    return next((line for line in lines if "vllm" in line.lower() and "no" in line.lower()), "")


def interpreters() -> dict[int, str]:
    """Supported Python 3 minors on this machine -> an interpreter that can make environments."""
    found = {sys.version_info.minor: sys.executable}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in MINORS:
        candidates = [f"python3.{minor}", *map(str, pyenv.glob(f"3.{minor}.*/bin/python3"))]
        for candidate in candidates:
            test = f"import sys, ensurepip, venv; sys.exit(sys.version_info[:2] != (3, {minor}))"
            if minor in found or not shutil.which(candidate):
                continue
            fits = subprocess.run([candidate, "-c", test], capture_output=True, check=False)
            if fits.returncode == 0:
                found[minor] = candidate
    return found


def check(interpreter: str) -> list[str]:
    """What there is to say of the wheel for `interpreter`; raises WheelError."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(interpreter, "-m", "venv", folder / "venv")
        binaries = folder / "venv" / "bin"
        if interpreter == sys.executable:
            builder, options = interpreter, ["--no-build-isolation"]
        else:
            builder, options = binaries / "python", [f"-Cbuild-dir={folder / 'build'}", *QUICK]
        wheel_of = [builder, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps"]
        run(*wheel_of, *options, "--wheel-dir", folder, ROOT)
        (wheel,) = folder.glob("lamps_vllm-*.whl")
        check_contents(wheel)
        size = f"{wheel.name}, {wheel.stat().st_size / 1e6:.2f} MB"
        return [size, *check_use(wheel, binaries, folder), "passed"]


def main() -> int:
    found = interpreters()
    failed = False
    with ThreadPoolExecutor() as pool:  # at a time: each waits for downloads in between
        checks = {minor: pool.submit(check, interpreter) for minor, interpreter in found.items()}
        for minor in MINORS:
            if minor not in found:
                print(f"wheel check, Python 3.{minor}: skipped, no such interpreter here")
                continue
            print(f"wheel check, Python 3.{minor}:", flush=True)
            try:
                lines = checks[minor].result()
            except WheelError as error:
                failed, lines = True, [f"FAILED: {error}"]
            print(*("    " + line for line in lines), sep="\n", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
