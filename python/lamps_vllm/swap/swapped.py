# SPDX-License-Identifier: Apache-2.0
"""What is known of a session whose KV goes to the host."""

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamps_vllm.groups import Key, Place

if TYPE_CHECKING:
    from vllm.v1.core.kv_cache_utils import KVCacheBlock


class Where(enum.Enum):
    """Where a session's KV is, as far as the host is concerned."""

    ELSEWHERE = enum.auto()
    """The core does not count on the host; what is there is spare."""
    STORING = enum.auto()
    """On its way there. Its blocks are the copy's, or kept and only lent to it."""
    ON_HOST = enum.auto()
    """There, and perhaps kept as well."""
    AWAITED = enum.auto()
    """A load is wanted, and waits for free blocks."""
    LOADING = enum.auto()


@dataclass
class Swapped:
    """A session that has, or had, KV on the host."""

    where: Where = Where.ELSEWHERE
    image: int | None = None
    """Rows that its KV on the host is in, and grows behind."""
    windows: set[int] = field(default_factory=set)
    """Images of its last windows, where the model has such layers."""
    chain: dict[Place, Key] = field(default_factory=dict)
    """The kept prefix, block by block, in order of groups and tokens."""
    present: "list[KVCacheBlock]" = field(default_factory=list)
    """While loading: blocks of the chain that were still in the pool; referenced."""
    arrived: "dict[Key, KVCacheBlock]" = field(default_factory=dict)
    """While loading: blocks whose copies are done; referenced."""
    jobs: set[int] = field(default_factory=set)
    """Under way, which the session still wants."""
    failed: bool = False
    """One of the copies under way, or of those that are over, brought nothing."""
    lost: bool = False
    """Rows that it counts on are gone since the copies under way began."""

    @property
    def images(self) -> set[int]:
        """All of its rows."""
        return self.windows | ({self.image} - {None})
