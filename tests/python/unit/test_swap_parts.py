# SPDX-License-Identifier: Apache-2.0
"""Parts of the connector: options, layouts, messages, the index of what is on the host."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vllm.v1.kv_cache_interface import KVCacheTensor

import lamps_ext
from lamps_vllm.swap.index import HostIndex, Piece
from lamps_vllm.swap.layout import LayoutError, bytes_per_block, pages_of
from lamps_vllm.swap.messages import Ended, LoadOrder, Orders, Reports
from lamps_vllm.swap.settings import SwapError, SwapSettings
from lamps_vllm.swap.stats import SwapStats
from lamps_vllm.swap.worker import SwapWorker

BLOCKS, PAGE, LAYERS = 8, 256, 3


def cache_of(*tensors: KVCacheTensor) -> SimpleNamespace:
    return SimpleNamespace(num_blocks=BLOCKS, kv_cache_tensors=list(tensors))


def tensor(layer_stride: int, block_stride: int, offset: int = 0, **more) -> KVCacheTensor:
    names = [f"{offset}.{i}" for i in range(LAYERS)]
    return KVCacheTensor(LAYERS * BLOCKS * PAGE, names, layer_stride, block_stride, offset, **more)


@pytest.mark.parametrize(
    ("layout", "pages"),
    [
        (tensor(BLOCKS * PAGE, PAGE), [(layer * BLOCKS * PAGE, PAGE) for layer in range(LAYERS)]),
        # heads outside of blocks (LHBNC): a page per head, of half the size
        (tensor(BLOCKS * PAGE, PAGE // 2), [(i * BLOCKS * PAGE // 2, PAGE // 2) for i in range(2 * LAYERS)]),
        # blocks outermost (BLNHC, BLHNC, BHLNC): a block is one page
        (tensor(PAGE, LAYERS * PAGE), [(0, LAYERS * PAGE)]),
    ],
    ids=["layers", "heads", "blocks"],
)  # fmt: skip
def test_every_byte_of_a_block_is_in_one_page(layout, pages):
    runs = pages_of(cache_of(layout))
    assert runs == pages
    assert bytes_per_block(runs) == LAYERS * PAGE
    assert len({run.offset + b * run.page + i for run in runs for b in range(BLOCKS)
                for i in range(run.page)}) == LAYERS * BLOCKS * PAGE  # fmt: skip


def test_layers_of_two_sizes():
    small, large = (
        tensor(BLOCKS * PAGE, PAGE),
        tensor(BLOCKS * 2 * PAGE, 2 * PAGE, LAYERS * BLOCKS * PAGE),
    )
    runs = pages_of(cache_of(small, large))
    assert [run.page for run in runs] == [PAGE] * 3 + [2 * PAGE] * 3


def test_blocks_that_hold_layers_of_two_sizes_are_one_page():
    stride = 9 * PAGE
    runs = pages_of(cache_of(tensor(PAGE, stride), tensor(2 * PAGE, stride, LAYERS * PAGE)))
    assert runs == [(0, stride)]


def test_groups_lie_over_each_other():
    """A block has the same pages in every group, though some may have fewer layers."""
    few = KVCacheTensor(LAYERS * BLOCKS * PAGE, ["w.0"], BLOCKS * PAGE, PAGE)
    runs = pages_of(cache_of(tensor(BLOCKS * PAGE, PAGE), few))
    assert runs == [(layer * BLOCKS * PAGE, PAGE) for layer in range(LAYERS)]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (
            [tensor(BLOCKS * PAGE, PAGE), tensor(BLOCKS * PAGE, PAGE // 2)],
            "8 pages of 128 bytes at 0, and 256 bytes at 0: expected the same pages in every group",
        ),
        ([tensor(BLOCKS * PAGE + 64, PAGE)], r"layers are 2112 bytes apart: expected a multiple of 2048"),
        ([tensor(BLOCKS * PAGE, PAGE, host_resident=True)], "in host memory: expected it on the device"),
        ([], "without tensors"),
    ],
)  # fmt: skip
def test_other_layouts_are_refused(layout, message):
    with pytest.raises(LayoutError, match=message):
        pages_of(cache_of(*layout))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"swap_space_gib": 0}, r"swap_space_gib = 0: .*greater than 0"),
        ({"swap_space_gib": "4"}, r"swap_space_gib = '4'"),
        ({"threads": 0}, r"threads = 0: .*greater than or equal to 1"),
        ({"cpu_bytes_to_use": 1}, r"cpu_bytes_to_use: unknown option; known are swap_space_gib"),
    ],
)
def test_bad_options_are_named(given, message):
    with pytest.raises(SwapError, match=message):
        SwapSettings.parse(given)


def test_host_memory_is_shared_by_the_ranks():
    settings = SwapSettings.parse({"swap_space_gib": 1.0})
    assert settings.rows(1, 1 << 20) == 1024
    assert settings.rows(4, 1 << 20) == 256
    with pytest.raises(SwapError, match=r"swap_space_gib = 1: expected at least 2, one block"):
        settings.rows(2, 1 << 30)
    assert SwapSettings.parse(None) == SwapSettings.parse({})


def test_messages_travel_and_add_up():
    order = HostIndex(4).store(None, "ab", [3, 2])[1]
    sent = pickle.loads(pickle.dumps(Orders([LoadOrder(order, "r")], [order])))
    assert sent.loads[0].request_id == "r" and sent.stores[0][2].tolist() == [3, 2]
    one = Reports(
        {1: Ended(1, "done", 8, 0.5), 2: Ended(1, "copy-failed", 0, 0.1)},
        {3: 1},
        9.0,
    )
    two = Reports({1: Ended(1, "checksum-mismatch", 8, 0.7)}, {3: 1, 4: 1}, 7.0)
    both = pickle.loads(pickle.dumps(one)).aggregate(two)
    assert both.ended == {1: (2, "checksum-mismatch", 8, 0.7), 2: (1, "copy-failed", 0, 0.1)}
    assert both.read == {3: 2, 4: 1}
    assert both.bytes_per_s == 7.0, "as fast as the slowest"
    assert one.aggregate(Reports()).bytes_per_s == 9.0 and Reports(bytes_per_s=1.0)
    assert one.ended[1].ranks == 1, "what was reported is not changed"
    assert not Reports() and Reports(read={1: 1})


def test_counters_add_up():
    one, two = SwapStats({"stored_blocks": 2}), SwapStats({"stored_blocks": 3, "no_room": 1})
    assert one.aggregate(two).reduce() == {"stored_blocks": 5, "no_room": 1}
    assert SwapStats({}).is_empty() and SwapStats({"no_room": 0}).is_empty() and not one.is_empty()
    two.reset()
    assert two.is_empty()


def store(index: HostIndex, hashes: str, image: int | None = None) -> int:
    image, order = index.store(image, list(hashes), list(range(len(hashes))))
    index.stored(order, image, "done")
    index.check_invariants()
    return image


def test_the_index_finds_what_is_complete():
    index = HostIndex(10)
    image, order = index.store(None, list("abc"), [5, 6, 7])
    assert "a" not in index and not index.can_grow(image)
    index.stored(order, image, "done")
    assert index.found("abcd") == 3 and index.found("xabc") == 0 and len(index) == 3
    assert index.pieces("bc") == [Piece(image, 1, 2)]
    assert store(index, "de", image) == image
    assert index.pieces("abcde") == [Piece(image, 0, 5)]
    other = store(index, "x")
    assert index.pieces("bxc") == [(image, 1, 1), (other, 0, 1), (image, 2, 1)]
    index.drop(image)
    assert index.found("a") == 0 and index.found("x") == 1 and index.free_rows == 9
    index.check_invariants()


def test_of_spare_images_the_least_recently_used_gives_way_first():
    index = HostIndex(6)
    first, second = store(index, "abc"), store(index, "def")
    index.spare(first)
    index.spare(second)
    index.spare(first)  # its session has come back and gone on
    store(index, "ghi")
    assert index.found("abc") == 3 and index.found("def") == 0


def test_spare_images_give_way_before_others():
    index = HostIndex(9)
    lost = []
    index.on_lost = lost.append
    old, spare, late = store(index, "abc"), store(index, "def"), store(index, "ghi")
    index.spare(late)
    index.spare(spare)
    index.claim(late)
    assert store(index, "jkl") not in (old, spare, late)
    assert lost == [spare]
    assert store(index, "mno") is not None
    assert lost == [spare, old], "then the least recently used"
    assert index.store(None, list("0123456789"), list(range(10))) is None


def test_a_store_that_fails_leaves_what_was_there():
    index = HostIndex(9)
    image = store(index, "abc")
    _, order = index.store(image, list("de"), [1, 2])
    index.stored(order, image, "copy-failed")
    assert index.found("abcde") == 3 and index.free_rows == 6
    index.check_invariants()
    fresh, order = index.store(None, ["x"], [1])
    index.stored(order, fresh, "cancelled")
    assert not index.can_grow(fresh) and index.free_rows == 6
    index.check_invariants()


def test_of_two_copies_the_later_one_is_found():
    """The earlier one may go: nobody counts on it."""
    index = HostIndex(9)
    old, order = index.store(None, list("abc"), [1, 2, 3])
    late = store(index, "bcd")
    index.stored(order, old, "done")
    assert index.pieces("abcd") == [(old, 0, 3), (late, 2, 1)]
    again = store(index, "ab")
    assert index.pieces("ab") == [Piece(again, 0, 2)]
    index.drop(old)
    assert index.found("ab") == 2 and index.found("c") == 0
    index.check_invariants()


def test_a_bad_load_costs_the_image():
    index = HostIndex(9)
    image = store(index, "abc")
    order = index.load(Piece(image, 0, 2), [7, 8])
    index.loaded(order[0], image, "cancelled")
    assert index.found("abc") == 3
    order = index.load(Piece(image, 0, 2), [7, 8])
    index.loaded(order[0], image, "copy-failed")
    assert index.found("abc") == 0 and index.free_rows == 9


def worker_over(memory: torch.Tensor, **settings) -> SwapWorker:
    settings = SwapSettings.parse({"keep_calibration": False, **settings})
    worker = SwapWorker(settings, cache_of(tensor(BLOCKS * PAGE, PAGE)), 1)
    worker.register(dict.fromkeys(("0.0", "0.1", "0.2"), memory))
    return worker


def test_a_worker_says_how_fast_copies_are_and_leaves_the_cache_as_it_is():
    memory = torch.randint(-128, 127, (LAYERS * BLOCKS * PAGE,), dtype=torch.int8)
    before = memory.clone()
    worker = worker_over(memory, swap_space_gib=0.001)
    assert 1e8 < worker.take_reports().bytes_per_s < 1e12
    assert (memory == before).all()
    assert worker.take_reports() is None
    worker.shutdown()


def test_a_worker_measures_copies_where_nobody_has(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calibrate, measured = lamps_ext.calibrate, []
    monkeypatch.setattr(
        lamps_ext, "calibrate", lambda **options: measured.append(options) or calibrate(**options)
    )
    memory = torch.zeros(LAYERS * BLOCKS * PAGE, dtype=torch.int8)
    first, second = (
        worker_over(memory, swap_space_gib=0.001, keep_calibration=True).take_reports()
        for _ in range(2)
    )
    assert first.bytes_per_s == second.bytes_per_s
    assert measured == [{"threads": 1}]
    worker_over(memory, swap_space_gib=0.001, keep_calibration=True, threads=2)
    assert measured[1:] == [{"threads": 2}]


def test_a_worker_reports_an_order_that_cannot_be_carried_out():
    worker = worker_over(
        torch.zeros(LAYERS * BLOCKS * PAGE, dtype=torch.int8), swap_space_gib=0.001
    )
    worker.take_reports()
    ids = np.array([BLOCKS + 1])
    worker.start_loads(
        Orders([LoadOrder((7, "load", ids, np.array([0]), np.array([[0, 1, 1]])), "r")])
    )
    assert worker.poll() == ({"r"}, {"r"})
    assert worker.take_reports().ended[7].outcome == "copy-failed"
    assert worker.poll() == (set(), set())


def test_copies_that_nobody_waits_for_are_behind_all_others(monkeypatch):
    worker = worker_over(
        torch.zeros(LAYERS * BLOCKS * PAGE, dtype=torch.int8), swap_space_gib=0.001
    )
    submitted = []
    monkeypatch.setattr(
        worker, "_submit", lambda order, priority: submitted.append((priority, order[0]))
    )
    orders = Orders([LoadOrder((1,), "r"), LoadOrder((2,), None)], stores=[(3,)], ahead=[(4,)])
    orders = pickle.loads(pickle.dumps(orders))
    worker.start_stores(orders)
    worker.start_loads(orders)
    assert sorted(submitted, key=lambda each: -each[0]) == [(1, 1), (0, 3), (0, 2), (-1, 4)]


def test_a_worker_refuses_a_cache_that_is_smaller_than_it_is_said():
    with pytest.raises(LayoutError, match=r"has 100 bytes: expected at least 6144"):
        worker_over(torch.zeros(100, dtype=torch.int8))


def test_shutting_down_calls_off_what_is_under_way():
    worker = worker_over(
        torch.zeros(LAYERS * BLOCKS * PAGE, dtype=torch.int8), swap_space_gib=0.001
    )
    worker.shutdown()
    ids = np.arange(2)
    worker.start_stores(Orders(stores=[(9, "store", ids, ids, np.array([[0, 2, 2]]))]))
    assert worker._mover.wait_idle(10)
    worker.poll()
    assert worker.take_reports().ended[9].outcome == "cancelled"
    worker.shutdown()
    assert isinstance(worker._mover, lamps_ext.Mover)
