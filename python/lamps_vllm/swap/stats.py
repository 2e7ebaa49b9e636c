# SPDX-License-Identifier: Apache-2.0
"""Counters of the connector in vLLM's log and among its Prometheus metrics."""

from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
)

from lamps_vllm.swap.tier import COUNTERS


class SwapStats(KVConnectorStats):
    """Counts since the last report, by the names of ``COUNTERS``."""

    def reset(self) -> None:
        self.data = {}

    def aggregate(self, other: KVConnectorStats) -> "SwapStats":
        names = {**self.data, **other.data}
        return SwapStats({n: self.data.get(n, 0) + other.data.get(n, 0) for n in names})

    def reduce(self) -> dict[str, int | float]:
        return dict(self.data)

    def is_empty(self) -> bool:
        return not any(self.data.values())


class SwapMetrics(KVConnectorPromMetrics):
    """``vllm:lamps_swap_<counter>_total``, per engine."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._counters: dict[tuple[int, str], Any] = {}
        for name, text in COUNTERS.items():
            counter = self._counter_cls(
                name=f"vllm:lamps_swap_{name}", documentation=text, labelnames=self._labelnames
            )
            for engine, labels in self.per_engine_labelvalues.items():
                self._counters[engine, name] = counter.labels(*labels)

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        for name, count in transfer_stats_data.items():
            self._counters[engine_idx, name].inc(count)
