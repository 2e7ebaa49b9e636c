# SPDX-License-Identifier: Apache-2.0
"""Readable tables of what a scheduler did, step by step.

One row per step after it was scheduled: who waits (by name), who runs (vLLM's order: the last is the
first victim), which sessions keep KV during a call, and how many blocks are free. Rows that repeat are
joined::

    step  waiting  running  held  free
    0     b        a        -     16
    1-9   -        a b      -     12
"""

import textwrap

from tests.support.driver import Driver

_HEAD = ("step", "waiting", "running", "held", "free")


class Table:
    """Records the steps of a driver."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._rows: list[tuple[int, int, tuple[str, ...]]] = []
        self._count = 0

    def step(self, count: int = 1) -> None:
        """Steps the engine and notes each step."""
        for _ in range(count):
            self._driver.step()
            self._note()

    def drain(self, limit: int = 2000) -> None:
        """Steps until no request is left, and once more."""
        while self._driver.scheduler.has_unfinished_requests() and self._count < limit:
            self.step()
        self.step()

    def _note(self) -> None:
        scheduler, number = self._driver.scheduler, self._count
        self._count += 1
        row = (
            _names(sorted(request.request_id for request in scheduler.waiting)),
            _names(request.request_id for request in scheduler.running),
            _names(sorted(scheduler._book.name_of(s) for s in scheduler._holds._blocks)),
            str(self._driver.free_blocks),
        )
        if self._rows and self._rows[-1][2] == row:
            self._rows[-1] = (self._rows[-1][0], number, row)
        else:
            self._rows.append((number, number, row))

    def __str__(self) -> str:
        lines = [_HEAD]
        for first, last, row in self._rows:
            lines.append((str(first) if first == last else f"{first}-{last}", *row))
        widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
        padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
                  for line in lines)  # fmt: skip
        return "\n".join(line.rstrip() for line in padded)

    def check(self, expected: str) -> None:
        """Compares with a table in a string literal; a failure shows the actual one."""
        actual, wanted = str(self), textwrap.dedent(expected).strip()
        assert actual == wanted, (
            f"the schedule changed; it is now\n\n{textwrap.indent(actual, '    ')}\n"
        )


def _names(items) -> str:
    return " ".join(items) or "-"
