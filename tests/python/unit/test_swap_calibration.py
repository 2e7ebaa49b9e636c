# SPDX-License-Identifier: Apache-2.0
"""What is measured about copies at the first start, and kept for later ones."""

import json
import multiprocessing
from pathlib import Path

import pytest

import lamps_ext
from lamps_vllm.swap import calibration
from lamps_vllm.swap.calibration import Calibration, Rate, calibrated, device_of

DEVICE = {"cpu": "test", "threads": 1}
THRESHOLDS = {
    "direct_min": 4096, "direct_moves": 16, "store_batch_min": 4096, "load_batch_min": 8192,
    "small_store": "staged", "small_load": "zero-copy",
}  # fmt: skip
RATES = [(4096, 1e9, 2e9), (8192, 3e9, 4e9)]


class Device:
    """Counts how often it is measured."""

    def __init__(self, rates: list[tuple] = RATES) -> None:
        self.rates, self.measured = rates, 0

    def __call__(self) -> tuple[dict, list]:
        self.measured += 1
        return THRESHOLDS, self.rates


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "lamps-vllm" / "calibration"


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    lines = []
    monkeypatch.setattr(
        calibration.logger, "warning", lambda text, *args: lines.append(text % args)
    )
    return lines


def test_a_device_is_measured_once(folder, warnings):
    device = Device()
    first = calibrated(DEVICE, device, keep=True)
    assert calibrated(DEVICE, device, keep=True) == first
    assert device.measured == 1
    assert first.thresholds.model_dump() == THRESHOLDS
    assert first.rates == [Rate(*each) for each in RATES]
    (path,) = folder.iterdir()
    assert json.loads(path.read_text())["format"] == 1
    assert warnings == []


def test_another_device_is_measured_itself(folder):
    device = Device()
    calibrated(DEVICE, device, keep=True)
    calibrated({**DEVICE, "threads": 2}, device, keep=True)
    assert device.measured == 2
    assert len(list(folder.iterdir())) == 2


def changed(**changes) -> bytes:
    content = {
        "format": 1,
        "device": DEVICE,
        "calibration": {"thresholds": dict(THRESHOLDS), "rates": RATES},
    }
    for where, value in changes.items():
        *path, last = where.split("__")
        at = content
        for name in path:
            at = at[name]
        at[last] = value
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file: Invalid JSON"),
        (changed()[:-9], "the file: Invalid JSON"),
        (b"\xff\xfe", "the file: Invalid JSON"),
        (changed(format=2), "format: Input should be 1"),
        (changed(device={"cpu": "another", "threads": 1}), "it is of another device"),
        (changed(calibration__rates=[]), "rates: List should have at least 1"),
        (changed(calibration__rates=[(4096, 0.0, 1e9)]), "rates.0.1: Input should be greater"),
        (changed(calibration__rates=[(4096, 1e9, float("nan"))]), "rates.0.2: Input should be"),
        (changed(calibration__rates=[*RATES, RATES[0]]), "pages must ascend"),
        (changed(calibration__thresholds__small_load="fast"), "small_load: Input should be"),
        (changed(calibration__thresholds__direct_moves=-1), "direct_moves: Input should be"),
        (changed(calibration__speed=3), "speed: Extra inputs are not permitted"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_and_replaced(folder, warnings, content, reason):
    device = Device()
    expected = calibrated(DEVICE, device, keep=True)
    (path,) = folder.iterdir()
    path.write_bytes(content)
    assert calibrated(DEVICE, device, keep=True) == expected
    (line,) = warnings
    assert f"cannot use {path}: " in line and reason in line
    assert calibrated(DEVICE, device, keep=True) == expected
    assert device.measured == 2 and len(warnings) == 1


def test_where_nothing_can_be_written_it_goes_on(tmp_path, monkeypatch, warnings):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert calibrated(DEVICE, Device(), keep=True).rates == RATES
    (line,) = warnings
    assert "could not keep its calibration in" in line

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nobody)
    assert calibrated(DEVICE, Device(), keep=True).rates == RATES
    assert warnings[1:] == ["LAMPS keeps no calibration: Could not determine home directory."]


def test_keeping_nothing_reads_and_writes_nothing(folder):
    calibrated(DEVICE, Device(), keep=False)
    assert not folder.exists()
    calibrated(DEVICE, Device(), keep=True)
    other = Device([(4096, 7e9, 7e9)])
    assert calibrated(DEVICE, other, keep=False).rates == other.rates


def fail(*message) -> None:
    raise AssertionError(message)


def start_over_and_over(number: int) -> None:
    """As a rank that finds the file, or not, or somebody writing it."""
    calibration.logger.warning = fail
    mine = [(4096, 1e9 + number, 2e9)]
    for _ in range(100):
        found = calibrated(DEVICE, Device(mine), keep=True)
        assert found.rates[0].load == 2e9
        calibration._path_of(DEVICE).unlink(missing_ok=True)


def test_processes_that_start_together_are_no_trouble(folder):
    context = multiprocessing.get_context("spawn")  # what other tests started has threads
    starts = [context.Process(target=start_over_and_over, args=(i,)) for i in range(2)]
    for start in starts:
        start.start()
    for start in starts:
        start.join(120)
    assert [start.exitcode for start in starts] == [0, 0]
    assert list(folder.iterdir()) == []


def test_the_rate_is_that_of_the_layout():
    measured = Calibration.of((THRESHOLDS, RATES))
    assert measured.bytes_per_s([4096]) == pytest.approx(2 / (1 / 1e9 + 1 / 2e9))
    assert measured.bytes_per_s([16384]) == measured.bytes_per_s([8192])
    middle = measured.bytes_per_s([5793])  # halfway, as sizes go
    assert middle == pytest.approx(2 / (1 / 2e9 + 1 / 3e9), rel=1e-3)
    both = measured.bytes_per_s([4096, 8192])
    assert both == pytest.approx(2 * 12288 / (4096 * 1.5e-9 + 8192 * (1 / 3e9 + 1 / 4e9)))


def test_the_cpu_is_measured_by_what_copies():
    thresholds, rates = lamps_ext.calibrate(threads=2, scratch_bytes=4 << 20)
    measured = Calibration.of((thresholds, rates))
    assert [rate.page for rate in measured.rates] == [4096 << i for i in range(9)]
    lamps_ext.Mover([[4096, 64, 64]], 1, 1, calibration=measured.thresholds.model_dump())
    one, two = device_of({"threads": 1}, 1), device_of({"threads": 2}, 1)
    assert one != two and one["cpu"] == two["cpu"] and one != device_of({"threads": 1}, 2)
