# SPDX-License-Identifier: Apache-2.0
"""Which KV blocks are in host memory, by their hash."""

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lamps_ext import HostTier
from lamps_vllm.swap.messages import Order


class Piece(NamedTuple):
    """Rows [row, row + count) of an image."""

    image: int
    row: int
    count: int


class HostIndex:
    """Images: rows of host memory that come and go together, usually those of one conversation.

    A row is found by the hash of its block alone, so what a request loads is what it would compute,
    whoever stored it. A block is there once: what is here already need not be stored again.
    """

    def __init__(self, rows: int) -> None:
        self._tier = HostTier(rows)
        self._rows: dict[Hashable, tuple[int, int]] = {}
        self._images: dict[int, list[Hashable]] = {}
        self._spare: dict[int, None] = {}  # least recently used first
        self._storing: set[int] = set()
        self._numbers = itertools.count()
        self.on_lost: Callable[[int], None] = lambda image: None
        """Called with an image that gave way to others, or turned out to be damaged."""

    def __contains__(self, block_hash: Hashable) -> bool:
        return block_hash in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def free_rows(self) -> int:
        return self._tier.free_rows

    def image_of(self, block_hash: Hashable) -> int | None:
        found = self._rows.get(block_hash)
        return None if found is None else found[0]

    def can_grow(self, image: int | None) -> bool:
        """Whether more can be stored behind what the image has."""
        return image in self._images and image not in self._storing

    def found(self, hashes: Iterable[Hashable]) -> int:
        """How many of these are here, up to the first that is not."""
        return sum(1 for _ in itertools.takewhile(self._rows.__contains__, hashes))

    def pieces(self, hashes: Sequence[Hashable]) -> list[Piece]:
        """Where these blocks are, which must all be here, as few pieces as possible in order."""
        pieces: list[Piece] = []
        for block_hash in hashes:
            image, row = self._rows[block_hash]
            last = pieces[-1] if pieces else None
            if last and last.image == image and last.row + last.count == row:
                pieces[-1] = last._replace(count=last.count + 1)
            else:
                pieces.append(Piece(image, row, 1))
        return pieces

    def store(
        self, image: int | None, hashes: Sequence[Hashable], blocks: Sequence[int]
    ) -> tuple[int, Order] | None:
        """An order to copy `blocks` behind what `image` has, or into a new one.

        Spare images give way first, then the least recently used. None: no room for so many.
        """
        if image is None or not self.can_grow(image):
            image = next(self._numbers)
        self._spare.pop(image, None)
        self._drop_spare(len(blocks))
        order = self._tier.store(image, _ids(blocks))
        self._forget(self._tier.take_evicted())
        if order is None:
            return None
        self._images.setdefault(image, []).extend(hashes)
        self._storing.add(image)
        return image, order

    def stored(self, order: Order, image: int, outcome: str) -> None:
        """A store has ended."""
        count = len(order[2])
        self._tier.finished(order[0], outcome)
        self._storing.discard(image)
        hashes = self._images.get(image)
        if hashes is None:  # dropped meanwhile
            return
        first = len(hashes) - count
        if outcome == "done":
            for row, block_hash in enumerate(hashes[first:], first):
                self._rows[block_hash] = (image, row)  # where it is twice, the older one may go
            return
        del hashes[first:]
        if not hashes:
            self._forget([image])

    def load(self, piece: Piece, blocks: Sequence[int]) -> Order:
        """An order to copy a piece into `blocks`."""
        return self._tier.load(piece.image, piece.row, _ids(blocks))

    def slots(self, piece: Piece) -> np.ndarray:
        """Where the piece lies in its extent, to choose blocks by."""
        return self._tier.slots(piece.image, piece.row, piece.count)

    def loaded(self, job: int, image: int, outcome: str) -> None:
        """A load has ended; after a failure the image is not trusted any more."""
        self._tier.finished(job, outcome)
        if outcome not in ("done", "cancelled"):
            self.drop(image)

    def spare(self, image: int) -> None:
        """Nobody counts on this image, just used: it stays while there is room, and can be found."""
        self._spare.pop(image, None)
        if image in self._images:
            self._spare[image] = None

    def claim(self, image: int | None) -> None:
        """Somebody counts on it again."""
        self._spare.pop(image, None)

    def drop(self, image: int) -> None:
        """Its rows go, now or when the copies under way are over."""
        self._tier.drop(image)
        self._forget([image])

    def drop_all(self) -> None:
        for image in list(self._images):
            self.drop(image)

    def check_invariants(self) -> None:
        self._tier.check_invariants()
        for block_hash, (image, row) in self._rows.items():
            assert self._images[image][row] == block_hash, f"row {row} of image {image} is another"
        for image, hashes in self._images.items():
            stored = len(hashes) if image not in self._storing else None
            assert stored is None or self._tier.rows(image) == stored, f"image {image} is partial"

    def _drop_spare(self, rows: int) -> None:
        for image in list(self._spare):
            if self._tier.free_rows >= rows:
                return
            if self._tier.jobs(image) == 0:
                self.drop(image)

    def _forget(self, images: Iterable[int]) -> None:
        for image in images:
            hashes = self._images.pop(image, None)
            if hashes is None:
                continue
            self._spare.pop(image, None)
            self._storing.discard(image)
            for block_hash in hashes:
                if self._rows.get(block_hash, (None,))[0] == image:
                    del self._rows[block_hash]
            self.on_lost(image)


def _ids(blocks: Sequence[int]) -> np.ndarray:
    return np.asarray(blocks, dtype=np.int64)
