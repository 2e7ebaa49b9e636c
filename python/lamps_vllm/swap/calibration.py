# SPDX-License-Identifier: Apache-2.0
"""How fast a device's copies are, and by which path: measured at the first start and kept for later ones."""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from vllm.logger import init_logger

import lamps_ext
from lamps_vllm.files import cache_dir, replacing

logger = init_logger("vllm.lamps")

FORMAT = 1

Device = dict[str, str | int]
"""All that a measurement depends on."""

_Strict = ConfigDict(extra="forbid", frozen=True, strict=True)
_Path = Literal["direct", "batch", "zero-copy", "bulk", "staged"]
_PageBytes = Annotated[int, Field(ge=1, le=1 << 40)]
_BytesPerSecond = Annotated[float, Field(gt=0, le=1e13)]


class Thresholds(BaseModel):
    """Which path for which copies, as a Mover takes it."""

    model_config = _Strict

    direct_min: _PageBytes
    direct_moves: int = Field(ge=0, le=1 << 40)
    store_batch_min: _PageBytes
    load_batch_min: _PageBytes
    small_store: _Path
    small_load: _Path


class Rate(NamedTuple):
    """Of many pages of one size, scattered on the device; bytes per second."""

    page: _PageBytes
    store: _BytesPerSecond
    load: _BytesPerSecond


class Calibration(BaseModel):
    """What was measured."""

    model_config = _Strict

    thresholds: Thresholds
    rates: list[Rate] = Field(min_length=1)

    @field_validator("rates")
    @classmethod
    def _in_order(cls, rates: list[Rate]) -> list[Rate]:
        pages = [rate.page for rate in rates]
        if pages != sorted(set(pages)):
            raise ValueError("pages must ascend")
        return rates

    @classmethod
    def of(cls, measured: tuple[dict, list]) -> "Calibration":
        """From what lamps_ext.calibrate() returns."""
        thresholds, rates = measured
        return cls(thresholds=Thresholds(**thresholds), rates=[Rate(*each) for each in rates])

    def bytes_per_s(self, pages: Sequence[int]) -> float:
        """Out and back, the mean of both ways, of scattered blocks with pages of these sizes, bytes."""
        measured = np.array(self.rates)
        sizes = np.log(measured[:, 0])
        one = np.array(pages, dtype=float)
        seconds = [one / np.interp(np.log(one), sizes, rates) for rates in measured[:, 1:].T]
        return float(2 * one.sum() / np.sum(seconds))


class _File(BaseModel):
    """What is on disk."""

    model_config = _Strict

    format: Literal[FORMAT]
    device: Device
    calibration: Calibration


def device_of(copiers: dict[str, int], ranks: int) -> Device:
    """What copies: {"threads": n} on the CPU or {"cuda_device": n}; `ranks` of it at the same time."""
    shared: Device = {"ranks": ranks, "library": lamps_ext.build_info()["version"]}
    if "cuda_device" in copiers:
        return {"cuda": lamps_ext.cuda_device_name(copiers["cuda_device"]), **shared}
    return {"cpu": _processor(), "cores": os.cpu_count() or 1, **copiers, **shared}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def calibrated(device: Device, measure: Callable[[], tuple[dict, list]], keep: bool) -> Calibration:
    """What is kept of an earlier start on `device`, else what `measure` (lamps_ext.calibrate) finds now.

    A file that cannot be used or written is a line in the log, no more. Processes may do this at the
    same time: files are replaced at once, and all of them hold a good measurement.
    """
    path = _path_of(device) if keep else None
    kept = _read(path, device) if path else None
    if kept is not None:
        return kept
    calibration = Calibration.of(measure())
    if path:
        _write(path, device, calibration)
    return calibration


def _path_of(device: Device) -> Path | None:
    name = hashlib.sha256(json.dumps(device, sort_keys=True).encode()).hexdigest()[:16]
    try:
        return cache_dir() / "calibration" / f"{name}.json"
    except RuntimeError as error:  # nobody's home
        logger.warning("LAMPS keeps no calibration: %s", error)
        return None


def _read(path: Path, device: Device) -> Calibration | None:
    try:
        found = _File.model_validate_json(path.read_bytes())
        if found.device == device:
            return found.calibration
        reason = f"it is of another device, {found.device}"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    except OSError as error:
        reason = str(error)
    logger.warning("LAMPS measures copies anew: cannot use %s: %s", path, reason)
    return None


def _write(path: Path, device: Device, calibration: Calibration) -> None:
    content = _File(format=FORMAT, device=device, calibration=calibration)
    try:
        with replacing(path) as file:
            file.write(content.model_dump_json(indent=1) + "\n")
    except OSError as error:
        logger.warning("LAMPS could not keep its calibration in %s: %s", path, error)
    else:
        logger.info("LAMPS has measured copies and keeps that in %s", path)
