# SPDX-License-Identifier: Apache-2.0
"""What the subcommands share: consoles, the end after a typed error, the progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lamps_vllm.replay.client import ReplayOptions, replay
from lamps_vllm.replay.records import ReplayResult, SessionRecord
from lamps_vllm.replay.workload import Workload

BAD_INPUT = 2
FAILED = 1

out = Console()
err = Console(stderr=True)


@contextmanager
def fail_on(*errors: type[Exception], code: int = BAD_INPUT) -> Iterator[None]:
    """Ends the command with the message of a typed error instead of a traceback."""
    try:
        yield
    except errors as error:
        err.print(f"[bold red]error:[/] {error}", highlight=False, markup=True)
        raise typer.Exit(code) from error


def replay_with_progress(
    workload: Workload, options: ReplayOptions, label: str = "replay"
) -> ReplayResult:
    """`replay` under a progress bar of finished and failed sessions."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("sessions, {task.fields[failed]} failed"),
        TimeElapsedColumn(),
    )
    # Two refreshes a second: the bar must not take time from the client.
    with Progress(*columns, console=err, refresh_per_second=2) as progress:
        task = progress.add_task(label, total=len(workload.sessions), failed=0)
        failed = 0

        def on_session(record: SessionRecord) -> None:
            nonlocal failed
            failed += record.error is not None
            progress.update(task, advance=1, failed=failed)

        return replay(workload, options, on_session)
