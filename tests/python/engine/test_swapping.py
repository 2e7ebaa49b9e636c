# SPDX-License-Identifier: Apache-2.0
"""A real vLLM engine whose KV goes to the host and comes back: it says what it says without."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from vllm.distributed.kv_transfer import get_kv_transfer_group

from lamps_vllm.replay.server import free_port, running_server
from lamps_vllm.swap.sessions import SessionSwaps
from lamps_vllm.swap.tier import SwapTier
from lamps_vllm.swap.worker import SwapWorker
from tests.python.engine.test_in_process import LAMPS, chat, engine, in_process, scheduler_of
from tests.python.engine.test_server import COMMAND, Server, body, drain, hint
from tests.support.driver import tokens
from tests.support.swapping import HeldMover

__all__ = ["in_process"]  # a fixture

pytestmark = pytest.mark.engine

POISON = 1000.0
ROW_BYTES = 2 * 32 * 2 * 64 * 2 * 4  # layers, tokens, heads, head size, K and V, float32
HOST_ROWS = 64
SWAP_SPACE = {"swap_space_gib": HOST_ROWS * ROW_BYTES / 2**30, "keep_calibration": False}


@pytest.fixture(scope="module")
def expected() -> list[list[list[int]]]:
    """What is said without swapping."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        with engine(None) as llm:
            return chat(llm)


@pytest.fixture
def poisoned(monkeypatch) -> list[int]:
    """Blocks are overwritten when they went out and are free, and again before they are loaded.

    The former are taken out of the prefix cache, where they could be found until they are used again.

    Returns the numbers of the former as they come.
    """
    caches, numbers = [], []
    register, demote, start_loads = (
        SwapWorker.register,
        SessionSwaps._demote,
        SwapWorker.start_loads,
    )

    def register_and_note(self, kv_caches):
        caches.extend(kv_caches.values())
        register(self, kv_caches)

    def demote_and_poison(self, blocks):
        demote(self, blocks)
        free = [b.block_id for b in blocks if b.ref_cnt == 0]
        self._pool.evict_blocks(set(free))
        for cache in caches:
            cache[free] = POISON
        numbers.extend(free)

    def poison_and_load(self, orders):
        for load in orders.loads:
            for cache in caches:
                cache[load.order[2].tolist()] = POISON
        start_loads(self, orders)

    monkeypatch.setattr(SwapWorker, "register", register_and_note)
    monkeypatch.setattr(SwapWorker, "start_loads", poison_and_load)
    monkeypatch.setattr(SessionSwaps, "_demote", demote_and_poison)
    return numbers


@contextmanager
def swapping(
    scheduler_cls: str | None, model: dict[str, Any] | None = None, **extra
) -> Iterator[tuple]:
    """An engine with the connector; yields it, the scheduler side, and the worker's mover.

    `model`: options of the engine for another one; its blocks are of the same size.
    """
    connector = {
        "kv_connector": "LampsConnector",
        "kv_connector_module_path": "lamps_vllm.connector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {**SWAP_SPACE, **extra},
    }
    with engine(scheduler_cls, kv_transfer_config=connector, **(model or {})) as llm:
        worker = get_kv_transfer_group()._worker
        worker._mover = HeldMover(worker._mover)
        tier: SwapTier = scheduler_of(llm).connector.tier
        assert tier.rows == HOST_ROWS
        yield llm, tier, worker._mover


def converse(llm) -> list[list[list[int]]]:
    answers = chat(llm)
    scheduler = scheduler_of(llm)
    assert not getattr(scheduler, "_faulted", False)
    assert scheduler.reset_connector_cache() and scheduler.reset_prefix_cache()
    assert scheduler.get_kv_cache_usage() == 0.0
    scheduler.connector.tier.index.check_invariants()
    return answers


def test_sessions_that_were_swapped_say_the_same(expected, poisoned):
    with swapping(LAMPS, checksums=True) as (llm, tier, _):
        assert converse(llm) == expected
        assert tier.totals["stored_blocks"] > 8
        assert tier.totals["loaded_blocks"] + tier.totals["prefetched_blocks"] > 8
        assert tier.totals["failed_copies"] == 0
    assert len(poisoned) > 8


def test_the_test_sees_loads_that_do_not_happen(expected, poisoned):
    with swapping(LAMPS) as (llm, tier, mover):
        mover.outcome["load"] = "done"
        assert converse(llm) != expected
        assert tier.totals["stored_blocks"] > 0


def damage(mover: HeldMover) -> None:
    ctypes.memset(mover.host_address, 0x55, HOST_ROWS * ROW_BYTES)


def fail(mover: HeldMover) -> None:
    mover.outcome["load"] = "copy-failed"


@pytest.mark.parametrize("harm", [damage, fail])
@pytest.mark.parametrize("scheduler_cls", [LAMPS, None], ids=["lamps", "stock"])
def test_what_cannot_be_loaded_is_recomputed(
    scheduler_cls, harm: Callable, expected, poisoned, monkeypatch
):
    with swapping(scheduler_cls, checksums=True) as (llm, tier, mover):
        start_loads = SwapWorker.start_loads

        def harm_and_load(self, orders):
            if orders.loads:
                harm(mover)
            start_loads(self, orders)

        monkeypatch.setattr(SwapWorker, "start_loads", harm_and_load)
        assert converse(llm) == expected
        assert tier.totals["failed_copies"] > 0
        assert tier.totals["loaded_blocks"] == tier.totals["prefetched_blocks"] == 0


def test_alone_it_is_a_cache_in_host_memory(expected, poisoned):
    with swapping(None) as (llm, tier, _):
        assert converse(llm) == expected
        assert tier.totals["stored_blocks"] > 8
        assert tier.totals["loaded_blocks"] > 20
    with swapping(None) as (llm, tier, mover):
        mover.outcome["load"] = "done"
        assert converse(llm) != expected, "the test would see loads that do not happen"


def test_shutdown_with_copies_under_way():
    from vllm import SamplingParams

    with swapping(None) as (llm, tier, mover):
        mover.holding = True
        params = SamplingParams(max_tokens=4, detokenize=False)
        llm.generate([{"prompt_token_ids": tokens(1, 300)}], params, use_tqdm=False)
        llm.llm_engine.engine_core.engine_core.step_fn()
        assert tier.busy and mover._held
        mover.let_go()
    assert mover.wait_idle(10)


def test_a_server_with_swap_space(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")  # for /reset_prefix_cache
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    port = free_port()
    log = tmp_path / "server.log"
    with running_server([*COMMAND, "--port", str(port), "--swap-space", "0.01"], port, log) as url:
        server = Server(url, log)
        crowd(server)
        assert server.metric("vllm:lamps_swap_stored_blocks_total") > 0
        assert server.metric("vllm:lamps_swap_failed_copies_total") == 0
        drain(server)
        text = log.read_text()
    assert "LAMPS swaps KV" in text
    assert len(list((tmp_path / "lamps-vllm" / "calibration").glob("*.json"))) == 1


def crowd(server: Server) -> None:
    """Sessions that outgrow the pool of 2048 tokens, two turns each, all at once."""
    import asyncio

    async def work(http) -> None:
        async def session(number: int) -> None:
            context = tokens(300 + number, 300)
            for turn in range(2):
                request = body(
                    context, output=20, session_id=f"s{number}",
                    vllm_xargs=hint(expected_call_seconds=1.0),
                )  # fmt: skip
                async with http.post("/v1/completions", json=request) as response:
                    assert response.status == 200, await response.text()
                    answer = (await response.json())["choices"][0]["token_ids"]
                context = context + answer + tokens(600 + 2 * number + turn, 20)
                await asyncio.sleep(1.0)

        await asyncio.gather(*(session(number) for number in range(16)))

    server.call(work)


def test_options_are_checked_at_start(tmp_path):
    from lamps_vllm.replay.server import ServerError

    port, log = free_port(), tmp_path / "server.log"
    command = [*COMMAND, "--port", str(port), "--swap-space", "0.00001"]
    with pytest.raises(ServerError, match="ended with status"), running_server(command, port, log):
        pass
    assert "swap_space_gib = 1e-05: expected at least" in log.read_text()


def poison(worker, blocks: list[int]) -> None:
    for cache in worker.model_runner.kv_caches:
        cache[blocks] = POISON


def test_two_ranks_swap_each_its_part(monkeypatch):
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    connector = {
        "kv_connector": "LampsConnector",
        "kv_connector_module_path": "lamps_vllm.connector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": SWAP_SPACE,
    }
    with engine(None, tensor_parallel_size=2) as llm:
        expected = chat(llm)
    with engine(LAMPS, tensor_parallel_size=2, kv_transfer_config=connector) as llm:
        tier = scheduler_of(llm).connector.tier
        assert tier.ranks == 2 and tier.rows == HOST_ROWS
        demote = SessionSwaps._demote

        def demote_and_poison(self, blocks):
            demote(self, blocks)
            free = [b.block_id for b in blocks if b.ref_cnt == 0 and b.block_hash is None]
            llm.collective_rpc(poison, args=(free,))

        monkeypatch.setattr(SessionSwaps, "_demote", demote_and_poison)
        assert converse(llm) == expected
        assert tier.totals["stored_blocks"] > 8
        assert tier.totals["loaded_blocks"] + tier.totals["prefetched_blocks"] > 8
