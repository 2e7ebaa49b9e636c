# SPDX-License-Identifier: Apache-2.0
"""What the two sides of the connector tell each other; plain data that travels between processes."""

from dataclasses import dataclass, field
from typing import NamedTuple

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorMetadata,
    KVConnectorWorkerMetadata,
)

Order = tuple
"""What a mover is asked to copy, as lamps_ext.HostTier writes it: (job, direction, blocks, ...)."""

OUTCOMES = ("done", "cancelled", "invalid-blocks", "copy-failed", "checksum-mismatch")
"""How a copy ended, better ones first."""


class LoadOrder(NamedTuple):
    """A copy to the device."""

    order: Order
    request_id: str | None
    """Waits for it; None: a load ahead of time, which gives way."""


@dataclass
class Orders(KVConnectorMetadata):
    """Scheduler to workers: the copies that begin in this step."""

    loads: list[LoadOrder] = field(default_factory=list)
    stores: list[Order] = field(default_factory=list)
    ahead: list[Order] = field(default_factory=list)
    """Stores that nobody waits for: behind all other copies."""


class Ended(NamedTuple):
    """A copy that is over on `ranks` ranks."""

    ranks: int
    outcome: str
    """The worst of theirs."""
    bytes: int
    """Per rank."""
    seconds: float
    """Of copying, of the slowest rank."""

    def and_also(self, other: "Ended") -> "Ended":
        """Both together."""
        return Ended(
            self.ranks + other.ranks,
            max(self.outcome, other.outcome, key=OUTCOMES.index),
            max(self.bytes, other.bytes),
            max(self.seconds, other.seconds),
        )


@dataclass
class Reports(KVConnectorWorkerMetadata):
    """Workers to scheduler: what has happened since the last step."""

    ended: dict[int, Ended] = field(default_factory=dict)
    """By job."""
    read: dict[int, int] = field(default_factory=dict)
    """Job -> ranks that have read all blocks of a store, though its copy is still on its way."""
    bytes_per_s: float = 0.0
    """Once, at start: what copies are expected to run at, per rank; 0: nothing new."""

    def __bool__(self) -> bool:
        return bool(self.ended or self.read or self.bytes_per_s)

    def aggregate(self, other: KVConnectorWorkerMetadata) -> "Reports":
        """What two workers report."""
        assert isinstance(other, Reports)
        rates = [each.bytes_per_s for each in (self, other) if each.bytes_per_s]
        merged = Reports(dict(self.ended), dict(self.read), min(rates, default=0.0))
        for job, ended in other.ended.items():
            merged.ended[job] = merged.ended[job].and_also(ended) if job in merged.ended else ended
        for job, ranks in other.read.items():
            merged.read[job] = merged.read.get(job, 0) + ranks
        return merged
