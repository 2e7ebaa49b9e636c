# SPDX-License-Identifier: Apache-2.0
"""The `lamps` command. vLLM is imported only by the subcommands that need it."""

from __future__ import annotations

import typer

from lamps_vllm.cli.compare import compare
from lamps_vllm.cli.console import fail_on
from lamps_vllm.cli.doctor import doctor
from lamps_vllm.cli.profile import profile
from lamps_vllm.cli.replay import replay
from lamps_vllm.cli.serve import ServeError, run_vllm, serve_arguments
from lamps_vllm.cli.simulate import simulate
from lamps_vllm.cli.train import train
from lamps_vllm.cli.workload import workload

app = typer.Typer(
    help="LAMPS for vLLM: schedule agent sessions by memory-over-time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command(
    add_help_option=False,
    options_metavar="MODEL [OPTIONS OF VLLM]",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def serve(context: typer.Context) -> None:
    """Serve a model: `vllm serve` with the LAMPS scheduler.

    Everything after `serve` goes to vLLM as it is; `lamps serve --help=all` shows vLLM's options.
    LAMPS has its own under --additional-config '{"lamps": {...}}', for example "policy", which names
    what decides; docs/options.md lists them. --swap-space GIB gives it host memory for the KV of
    sessions whose call runs; docs/swap.md says how that works.
    """
    if context.args in ([], ["--help"], ["-h"]):
        typer.echo(context.get_help())
        return
    with fail_on(ServeError):
        arguments = serve_arguments(context.args)
    run_vllm(arguments)


app.command()(workload)
app.command()(replay)
app.command()(compare)
app.command()(simulate)
app.command()(profile)
app.command()(train)
app.command()(doctor)


def main() -> None:
    """Entry point of the console script."""
    app()
