# SPDX-License-Identifier: Apache-2.0
"""LAMPS for vLLM: schedules agent sessions by predicted memory over time.

``vllm serve MODEL --scheduler-cls lamps_vllm.LampsScheduler`` is the whole interface of a server;
``AugmentedLLM`` generates with Python tools inside one request. Importing this package does nothing by
itself.
"""

from typing import Any

__all__ = ["AugmentedLLM", "BlockingAugmentedLLM", "LampsScheduler"]


def __getattr__(name: str) -> Any:
    # vLLM takes seconds to import; `lamps --help` and `lamps replay` do not need it.
    if name == "LampsScheduler":
        from lamps_vllm.scheduler import LampsScheduler

        return LampsScheduler
    if name in ("AugmentedLLM", "BlockingAugmentedLLM"):
        from lamps_vllm import augmented

        return getattr(augmented, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
