# SPDX-License-Identifier: Apache-2.0
"""The binding of swapping: arrays in, orders and completions out, bytes where they belong."""

import pickle
import re

import numpy as np
import pytest

import lamps_ext
from lamps_ext import HostTier, InvalidOption, LampsError, Mover, UnknownHandle

BLOCKS, LAYERS, PAGE = 64, 3, 1024


@pytest.fixture
def cache() -> np.ndarray:
    """A KV cache in layers, as vLLM's CPU build has it: every byte random."""
    random = np.random.default_rng(1)
    return random.integers(0, 256, (LAYERS, BLOCKS, PAGE), dtype=np.uint8)


def regions_of(cache: np.ndarray) -> np.ndarray:
    return np.array([(layer.ctypes.data, PAGE, PAGE) for layer in cache], dtype=np.int64)


def mover_of(cache: np.ndarray, rows: int = 40, **options) -> Mover:
    return Mover(regions_of(cache), BLOCKS, rows, **options)


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def carry_out(mover: Mover, order: tuple, **options) -> tuple:
    mover.submit(order, **options)
    assert mover.wait_idle(60)
    (completion,) = mover.poll()
    assert completion[0] == order[0]
    return completion


def test_a_session_goes_out_and_comes_back_elsewhere(cache: np.ndarray):
    mover, tier = mover_of(cache, checksums=True, threads=2), HostTier(40)
    before = cache.copy()
    store = tier.store(7, ids(9, 8, 7, 30))
    job, finished, outcome, size, copying, waiting = carry_out(mover, store)
    assert (finished, outcome, size) == (True, "done", 4 * LAYERS * PAGE)
    assert 0 <= copying <= waiting
    tier.finished(job, outcome)
    assert tier.rows(7) == 4
    cache[:, [7, 8, 9, 30]] = 0xEE
    load = tier.load(7, 0, np.array([20, 21, 22, 23], dtype=np.int32))
    assert carry_out(mover, load, priority=1, deadline=5.0)[2] == "done"
    assert (cache[:, 20:24] == before[:, [9, 8, 7, 30]]).all()
    untouched = [b for b in range(BLOCKS) if b not in {7, 8, 9, 30, 20, 21, 22, 23}]
    assert (cache[:, untouched] == before[:, untouched]).all()


def test_orders_travel_between_processes():
    tier = HostTier(10)
    order = tier.store(1, ids(5, 4))
    job, direction, blocks, slots, pieces = pickle.loads(pickle.dumps(order))
    assert (job, direction, blocks.tolist(), slots.tolist()) == (1, "store", [5, 4], [1, 0])
    assert pieces.tolist() == [[0, 2, 2]]


def test_a_full_tier_evicts_the_oldest_and_then_refuses():
    tier = HostTier(10)
    for session in (1, 2):
        tier.finished(tier.store(session, ids(1, 2, 3, 4, 5))[0], "done")
    tier.touch(1)
    order = tier.store(3, ids(1, 2))
    assert order is not None
    assert tier.take_evicted() == [2]
    assert tier.store(4, ids(*range(9))) is None  # 3 is being stored, 1 has only five rows
    assert tier.rows(1) == 5
    assert (tier.capacity, tier.free_rows, tier.jobs(3)) == (10, 3, 1)
    tier.drop(1)
    assert tier.rows(1) == 0
    tier.check_invariants()


def test_damage_is_an_outcome(cache: np.ndarray):
    import ctypes

    mover, tier = mover_of(cache, checksums=True), HostTier(40)
    tier.finished(carry_out(mover, tier.store(1, ids(3, 4)))[0], "done")
    byte = ctypes.c_uint8.from_address(mover.host_address + 5)
    byte.value ^= 1
    job, _, outcome, *_ = carry_out(mover, tier.load(1, 0, ids(6, 7)))
    assert outcome == "checksum-mismatch"
    tier.finished(job, outcome)
    assert tier.rows(1) == 0


def test_stopping_cancels(cache: np.ndarray):
    mover, tier = mover_of(cache), HostTier(40)
    assert not mover.cancel(1)
    mover.stop()
    assert carry_out(mover, tier.store(1, ids(3)))[2] == "cancelled"
    assert mover.row_bytes == LAYERS * PAGE


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (np.array([1.0]), "float64 in 1 dimensions: expected one of int32 or int64, in one"),
        (np.array([[1]]), "int64 in 2 dimensions"),
        (ids(-1), "blocks has -1: expected numbers in [0, 2147483647]"),
        (ids(2**31), "blocks has 2147483648: expected numbers in [0, 2147483647]"),
        (np.array([1], dtype=np.uint8), "uint8"),
    ],
)
def test_only_arrays_of_block_numbers_are_taken(blocks: np.ndarray, message: str):
    with pytest.raises(InvalidOption, match=re.escape(message)):
        HostTier(10).store(1, blocks)


def test_errors_name_what_was_expected(cache: np.ndarray):
    mover, tier = mover_of(cache), HostTier(40)
    with pytest.raises(InvalidOption, match="outcome = fine: expected one of done, cancelled"):
        tier.finished(1, "fine")
    with pytest.raises(UnknownHandle, match="job 1: expected one under way"):
        tier.finished(1, "done")
    order = tier.store(1, ids(BLOCKS))
    with pytest.raises(InvalidOption, match=rf"block = {BLOCKS}: expected one in \[0, {BLOCKS}\)"):
        mover.submit(order)
    with pytest.raises(InvalidOption, match="order of 2 fields: expected 5"):
        mover.submit((1, "store"))
    with pytest.raises(InvalidOption, match="regions: expected a table of 3 columns"):
        Mover(np.zeros((1, 2), dtype=np.int64), BLOCKS, 10)
    with pytest.raises(InvalidOption, match="calibration has speed"):
        mover_of(cache, calibration={"speed": 1})
    with pytest.raises(InvalidOption, match="path = fast: expected one of direct, batch"):
        mover_of(cache, calibration={"small_load": "fast"})


def test_without_a_device_cuda_is_a_clear_error(cache: np.ndarray):
    reason = lamps_ext.why_no_cuda()
    if not reason:
        pytest.skip("there is a CUDA device")
    with pytest.raises(LampsError, match=re.escape(reason)):
        mover_of(cache, cuda_device=0)
    with pytest.raises(lamps_ext.DeviceError, match=re.escape(reason)):
        lamps_ext.calibrate(cuda_device=0, scratch=4096, scratch_bytes=2 << 20)
    with pytest.raises(lamps_ext.DeviceError, match=re.escape(reason)):
        lamps_ext.cuda_device_name(0)


def test_planned_moves_are_those_of_numpy():
    random = np.random.default_rng(2)
    regions = np.array([(1 << 40, 8192, 4096), (1 << 41, 8192, 8192)], dtype=np.int64)
    blocks, slots = random.permutation(100), np.arange(100)
    planner = lamps_ext.MovePlanner(regions, 100)
    moves = planner.plan(blocks, slots, 1 << 20, 100, "load")
    del planner  # the array keeps it alive
    there, here = set(), set()
    for source, target, size in moves.tolist():
        pages = range(0, size, 4096 if target < 1 << 41 else 8192)
        there |= {(source + page, target + page) for page in pages}
    for block, slot in zip(blocks, slots, strict=True):
        here.add(((1 << 20) + slot * 4096, (1 << 40) + block * 8192))
        here.add(((1 << 20) + 100 * 4096 + slot * 8192, (1 << 41) + block * 8192))
    assert there == here


def test_matching_gives_the_fewest_copies():
    matched = lamps_ext.match_blocks(ids(2, 1, 0), ids(30, 10, 20))
    assert matched.tolist() == [30, 20, 10]
