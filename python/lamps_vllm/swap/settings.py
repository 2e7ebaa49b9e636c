# SPDX-License-Identifier: Apache-2.0
"""Options of the connector: ``kv_connector_extra_config`` of ``--kv-transfer-config``."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

GIB = 1 << 30


class SwapError(ValueError):
    """The connector cannot work as it was asked to; the message names the value and what is expected."""


class SwapSettings(BaseModel):
    """What an operator may set."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    swap_space_gib: float = Field(4.0, gt=0, le=1 << 20)
    """Host memory for KV, GiB, all ranks of an engine together."""
    checksums: bool = False
    """Compare every load with what was stored."""
    threads: int = Field(1, ge=1, le=64)
    """That copy, per rank; only where the KV cache is in CPU memory."""
    keep_calibration: bool = True
    """Keep what the first start on a device measures about its copies for later ones."""

    @classmethod
    def parse(cls, extra_config: Mapping[str, Any] | None) -> "SwapSettings":
        """Raises SwapError naming every bad field, its value and what was expected."""
        try:
            return cls(**(extra_config or {}))
        except ValidationError as error:
            known = ", ".join(cls.model_fields)
            lines = [
                f"{item['loc'][0]}: unknown option; known are {known}"
                if item["type"] == "extra_forbidden"
                else f"{item['loc'][0]} = {item['input']!r}: {item['msg']}"
                for item in error.errors()
            ]
            raise SwapError("kv_connector_extra_config: " + "; ".join(lines)) from None

    def rows(self, ranks: int, row_bytes: int) -> int:
        """Blocks that fit into each rank's share; `row_bytes`: of one block on one rank.

        Raises:
            SwapError: not even one does.
        """
        rows = int(self.swap_space_gib * GIB) // ranks // row_bytes
        if rows < 1:
            least = row_bytes * ranks / GIB
            raise SwapError(
                f"swap_space_gib = {self.swap_space_gib:g}: expected at least {least:g}, one block"
            )
        return rows
