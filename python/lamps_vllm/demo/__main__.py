# SPDX-License-Identifier: Apache-2.0
"""`python -m lamps_vllm.demo`: both parts, one after the other, on this machine's engine."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from openai import OpenAIError
from rich.console import Console

from lamps_vllm.cli.compare import show
from lamps_vllm.demo.bfcl import BfclError
from lamps_vllm.demo.chat import ChatError, run_chat
from lamps_vllm.demo.decisions import in_words, logging_arm, read_decisions, summary
from lamps_vllm.demo.model import CHAT_TEMPLATE, MAX_CONTEXT, NAME, ModelError, prepare_model
from lamps_vllm.demo.overload import BLOCK_TOKENS, Load, compare_under_load, load_for
from lamps_vllm.replay.arms import Deployment, command_line
from lamps_vllm.replay.client import ReplayError
from lamps_vllm.replay.server import ServerError, free_port, running_server

FAILURES = (ModelError, BfclError, ChatError, ServerError, ReplayError, OpenAIError)
app = typer.Typer(add_completion=False)
console = Console(highlight=False)


def on_gpu() -> bool:
    """Whether the installed vLLM will run on a CUDA device."""
    import torch  # noqa: PLC0415  (seconds of imports)

    return torch.version.cuda is not None and torch.cuda.is_available()


def deployment_of(model: Path, load: Load) -> Deployment:
    """What every server of the demo serves: the same model, memory and chat template."""
    extra = ["--served-model-name", NAME, "--chat-template", str(CHAT_TEMPLATE)]
    extra += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--enforce-eager"]
    return Deployment(
        model=str(model),
        block_size=BLOCK_TOKENS,
        kv_blocks=load.kv_blocks,
        max_model_len=MAX_CONTEXT,
        pace=None,
        extra=tuple(extra),
    )


def show_chat(deployment: Deployment, folder: Path) -> None:
    """Part (a), then every decision of the scheduler as it logged them."""
    log = folder / "chat-decisions.jsonl"
    port = free_port()
    command = command_line(logging_arm(log), deployment, port)
    console.print("  starting the server ...")
    with running_server(command, port, folder / "logs" / "chat.log") as base_url:
        run_chat(base_url, console)
    console.print("  What LAMPS decided about the session's KV, and why:")
    decisions = read_decisions(log)
    for decision in decisions:
        console.print("  " + in_words(decision, decisions[0].get("t", 0.0)), soft_wrap=True)
    if not decisions:
        console.print(f"  [yellow]nothing: {log} is empty[/yellow]")


def show_overload(deployment: Deployment, load: Load, folder: Path) -> None:
    """Part (b), with the decisions counted."""
    log = folder / "overload-decisions.jsonl"
    show(compare_under_load(deployment, load, folder, log))
    console.print("Decisions of LAMPS:")
    for line in summary(read_decisions(log)):
        console.print("  " + line)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for results and server logs.")] = Path(
        "results/demo"
    ),
    chat: Annotated[bool, typer.Option(help="Part (a), the tool-calling chat.")] = True,
    overload: Annotated[bool, typer.Option(help="Part (b), stock against LAMPS.")] = True,
) -> None:
    """A tool-calling chat, then real agent prompts under overload: stock vLLM against LAMPS."""
    # A SIGTERM must stop the server too; the default action would leave it behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    try:
        console.print(f"[bold]Model[/bold]: {NAME} (converted once, then kept)")
        load = load_for(on_gpu())
        deployment = deployment_of(prepare_model(), load)
        if chat:
            console.print("\n[bold](a) A tool-calling chat with `lamps serve`[/bold]")
            show_chat(deployment, out)
        if overload:
            console.print("\n[bold](b) Agent sessions under overload: stock vLLM, LAMPS[/bold]")
            show_overload(deployment, load, out)
    except FAILURES as error:
        console.print(f"[red]demo: {error}[/red]")
        raise typer.Exit(1) from error
    console.print(f"Done in {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    app()
