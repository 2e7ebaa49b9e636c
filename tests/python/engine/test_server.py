# SPDX-License-Identifier: Apache-2.0
"""A real vLLM server with LAMPS, over HTTP."""

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lamps_vllm.replay.server import ServerError, free_port, running_server
from lamps_vllm.replay.tiny_model import SERVE_FLAGS, write_tiny_model
from tests.support.driver import tokens

pytestmark = pytest.mark.engine

COMMAND = (
    sys.executable, "-m", "lamps_vllm.cli", "serve", str(write_tiny_model()), *SERVE_FLAGS,
    "--enforce-eager", "--host", "127.0.0.1", "--max-model-len", "1024", "--block-size", "32",
    "--num-gpu-blocks-override", "64", "--served-model-name", "tiny", "--enable-prompt-tokens-details",
)  # fmt: skip


@dataclass
class Server:
    """A running server; every answer that is no success fails the test, unless asked for."""

    url: str
    log: Path

    def call(self, work) -> Any:
        """Runs `work(http)`, a coroutine function."""

        async def run() -> Any:
            async with aiohttp.ClientSession(self.url) as http:
                return await work(http)

        return asyncio.run(run())

    def complete(self, prompt: list[int], *, status: int = 200, **more: Any) -> dict[str, Any]:
        async def work(http: aiohttp.ClientSession) -> dict[str, Any]:
            async with http.post("/v1/completions", json=body(prompt, **more)) as response:
                assert response.status == status, await response.text()
                return await response.json()

        return self.call(work)

    def metric(self, name: str) -> float:
        async def work(http: aiohttp.ClientSession) -> str:
            async with http.get("/metrics") as response:
                return await response.text()

        return float(re.search(rf"^{name}\{{[^}}]*\}} (\S+)$", self.call(work), re.M)[1])

    def eventually(self, name: str, value: float, seconds: float = 20.0) -> None:
        """Metrics are published with the steps of an engine: a small request makes one."""
        deadline = time.monotonic() + seconds
        while True:
            self.complete(tokens(99, 8), output=1)
            if (seen := self.metric(name)) == value:
                return
            assert time.monotonic() < deadline, f"{name} stays {seen}, expected {value}"
            time.sleep(0.2)


def body(prompt: list[int], **more: Any) -> dict[str, Any]:
    length = more.pop("output", 8)
    return {
        "model": "tiny", "prompt": prompt, "max_tokens": length, "min_tokens": length, "ignore_eos": True,
        "temperature": 0.0, "return_token_ids": True, **more,
    }  # fmt: skip


def hint(**fields: Any) -> dict[str, str]:
    return {"lamps": json.dumps(fields)}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    options = {"lamps": {"decision_log": str(folder / "decisions.jsonl")}}
    command = [*COMMAND, "--port", str(port), "--additional-config", json.dumps(options)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_SERVER_DEV_MODE", "1")  # for /reset_prefix_cache
        with running_server(command, port, folder / "server.log") as url:
            yield Server(url, folder / "server.log")


def drain(server: Server) -> None:
    """Nothing runs or waits, and every block is free once what is kept was let go."""
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting"):
        server.eventually(name, 0.0)

    async def reset(http: aiohttp.ClientSession) -> None:
        async with http.post("/reset_prefix_cache") as response:
            assert response.status == 200

    server.call(reset)
    server.eventually("vllm:kv_cache_usage_perc", 0.0)
    assert "LAMPS failed" not in server.log.read_text()


def test_the_next_turn_finds_its_kv(server):
    prompt = tokens(1, 200)
    first = server.complete(prompt, session_id="agent")
    context = prompt + first["choices"][0]["token_ids"] + tokens(2, 30)
    second = server.complete(context, session_id="agent", vllm_xargs=hint(final_turn=True))
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= 192
    decisions = (server.log.parent / "decisions.jsonl").read_text()
    assert '"session": "agent", "event": "pause"' in decisions
    assert '"session": "agent", "event": "return"' in decisions
    drain(server)


def test_hints_good_and_bad(server):
    good = hint(session="a", tool="search", expected_output_tokens=8, expected_call_seconds=0.5)
    server.complete(tokens(3, 60), vllm_xargs=good)
    for bad in (
        hint(expected_call_seconds=-3),
        hint(expected_call_seconds=-4),
        {"lamps": "{"},
        {"lamps": 7},
    ):
        answer = server.complete(tokens(4, 60), vllm_xargs=bad)
        assert len(answer["choices"][0]["token_ids"]) == 8
    log = server.log.read_text()
    assert log.count("hint expected_call_seconds = -3: expected a number in [0, 1e7]") == 1
    assert "expected_call_seconds = -4" not in log, "one warning per field"
    assert log.count("hint lamps = '{' is not JSON: expected an object") == 1
    drain(server)


def test_several_answers_to_one_prompt(server):
    answer = server.complete(tokens(5, 100), session_id="fan", n=2, temperature=1.0, seed=1)
    assert [len(choice["token_ids"]) for choice in answer["choices"]] == [8, 8]
    drain(server)


def test_a_client_that_disconnects_leaves_nothing(server):

    async def leave(http: aiohttp.ClientSession) -> None:
        response = await http.post(
            "/v1/completions", json=body(tokens(6, 100), output=800, stream=True, session_id="gone")
        )
        assert await response.content.readline()
        response.close()

    server.call(leave)
    drain(server)


def test_a_prompt_beyond_the_model_is_refused_and_the_server_lives(server):
    server.complete(tokens(7, 1100), status=400)
    server.complete(tokens(7, 100))
    drain(server)


def test_many_sessions_at_once(server):
    async def work(http: aiohttp.ClientSession) -> list[int]:
        async def session(number: int) -> int:
            context, lengths = tokens(100 + number, 150), 0
            for turn in range(3):
                request = body(context, output=20, session_id=f"many-{number}")
                async with http.post("/v1/completions", json=request) as response:
                    answer = (await response.json())["choices"][0]["token_ids"]
                lengths += len(answer)
                context = context + answer + tokens(1000 + 10 * number + turn, 20)
            return lengths

        return await asyncio.gather(*(session(number) for number in range(16)))

    assert server.call(work) == [60] * 16
    drain(server)


def test_bad_options_stop_the_start(tmp_path):
    port, log = free_port(), tmp_path / "server.log"
    options = json.dumps({"lamps": {"rank_weigth": 1, "preserve": "no"}})
    command = [*COMMAND, "--port", str(port), "--additional-config", options]
    with pytest.raises(ServerError, match="ended with status"), running_server(command, port, log):
        pass
    assert "rank_weigth: unknown option; known are" in log.read_text()
    assert "preserve = 'no'" in log.read_text()
