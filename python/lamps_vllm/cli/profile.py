# SPDX-License-Identifier: Apache-2.0
"""`lamps profile`: a device profile from a running server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lamps_vllm.cli.console import err, fail_on, out
from lamps_vllm.profiling import Plan, ProfilingError, profile_server
from lamps_vllm.replay.report import save_json


def profile(
    path: Annotated[Path, typer.Argument(help="File to write (JSON).")],
    *,
    base_url: Annotated[str, typer.Option(help="Server, without /v1.")] = "http://127.0.0.1:8000",
    model: Annotated[str | None, typer.Option(help="Default: the server's first model.")] = None,
    requests: Annotated[
        str, typer.Option(help="Comma-separated batch sizes to decode with.")
    ] = "1,2,4,8,16",
    prompts: Annotated[
        str, typer.Option(help="Comma-separated prompt lengths, tokens. Long ones show more.")
    ] = "64,256,512,1024,1536",
    repeats: Annotated[int, typer.Option(min=1, help="Of each trial; the fastest counts.")] = 3,
    vocab_size: Annotated[int, typer.Option(min=16, help="Token ids stay below this.")] = 1024,
    api_key: Annotated[str | None, typer.Option(envvar="OPENAI_API_KEY")] = None,
) -> None:
    """Measure step times of a running, otherwise idle server for `lamps simulate --profile FILE`.

    Times include HTTP; what lies beyond the batch sizes and prompts tried is extrapolated.
    """
    with fail_on(ProfilingError, OSError):
        plan = Plan(
            base_url=base_url,
            model=model,
            api_key=api_key,
            requests=_sizes("requests", requests),
            prompts=_sizes("prompts", prompts),
            repeats=repeats,
            vocab_size=vocab_size,
        )
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err) as progress:
            task = progress.add_task("profiling", total=plan.trials())
            measured, error, _ = profile_server(
                plan, lambda what: progress.update(task, advance=1, description=what)
            )
        save_json(path, measured.model_dump(mode="json"))
    out.print(
        f"{path}: step = {1e3 * measured.base_s:.2f} ms + {1e6 * measured.per_request_s:.1f} us a "
        f"request + {1e6 * measured.per_prefill_token_s:.2f} us a prefill token + "
        f"{1e9 * measured.per_context_token_s:.2f} ns a context token; "
        f"median error of the fit {100.0 * error:.0f} %"
    )
    if measured.engine is None:
        err.print(
            "[bold yellow]note:[/] the server does not tell its KV size: add `engine` to the file "
            "before simulating on it"
        )


def _sizes(name: str, text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ProfilingError(f"{name} = {text!r}: expected whole numbers") from error
    if min(sizes) < 1:
        raise ProfilingError(f"{name} = {text!r}: accepted are numbers >= 1")
    return sizes
