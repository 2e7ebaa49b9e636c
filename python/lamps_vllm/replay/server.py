# SPDX-License-Identifier: Apache-2.0
"""A model server as a child process: started, waited for, stopped with everything it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.5
LOG_TAIL_LINES = 15


class ServerError(RuntimeError):
    """A server did not start; the message ends with the tail of its log."""


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_server(
    command: Sequence[str], port: int, log: Path, timeout_s: float = START_TIMEOUT_S
) -> Iterator[str]:
    """Starts `command`, yields its base URL once it is healthy, and stops it on the way out.

    The server gets a process group of its own but stays in this session: on few cores another
    session's scheduling group would starve the client. Raises ServerError.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # A CPU engine would otherwise reserve a share of all memory; a GPU engine ignores it.
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1"} | os.environ
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, process_group=0, env=environment
        )
    try:
        base_url = f"http://127.0.0.1:{port}"
        _wait_healthy(process, base_url, log, timeout_s)
        yield base_url
    finally:
        _stop(process)


def _wait_healthy(
    process: subprocess.Popen[bytes], base_url: str, log: Path, timeout_s: float
) -> None:
    deadline = time.monotonic() + timeout_s
    # Without the proxies of the environment: this is the machine itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"the server ended with status {process.returncode}\n{_tail(log)}")
        with suppress(OSError), opener.open(f"{base_url}/health", timeout=5):
            return
        time.sleep(POLL_S)
    raise ServerError(f"the server was not healthy after {timeout_s:.0f} s\n{_tail(log)}")


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"{log}:", *lines[-LOG_TAIL_LINES:]])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the server to end, then ends what is left of its group."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
