# SPDX-License-Identifier: Apache-2.0
"""`lamps simulate`: policies against each other on a simulated engine."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import lamps_ext
from lamps_vllm.cli.console import FAILED, err, fail_on, out
from lamps_vllm.cli.workload import (
    KIND_HELP,
    CallCap,
    ContextFactor,
    GapsOption,
    SharePrefix,
    SubAgents,
)
from lamps_vllm.pace import PaceError, available_profiles, load_profile
from lamps_vllm.replay.report import comparison_table, save_json
from lamps_vllm.replay.workload import WorkloadError
from lamps_vllm.simulate.case import (
    STOCK,
    Case,
    HostTier,
    Load,
    LoadKind,
    SimulationError,
    split_arms,
)
from lamps_vllm.simulate.outcome import Outcome
from lamps_vllm.simulate.report import as_json, page
from lamps_vllm.simulate.sweep import Capacity, Limits, find_capacities, run_cases
from lamps_vllm.simulate.tables import capacity_table, csv_text, runs_by_policy, summary_table
from lamps_vllm.workloads.catalog import Source
from lamps_vllm.workloads.predictions import Prediction, PredictionError
from lamps_vllm.workloads.traces import Gaps

POLICY_HELP = (
    "Comma-separated policies; the first is the reference of ratios. Options in braces: "
    "lamps{rank_weight=0}. Names: " + ", ".join([*STOCK, *lamps_ext.policy_names()])
)


def simulate(
    source: Annotated[str, typer.Argument(metavar="TRACE|GENERATOR", help=KIND_HELP)],
    *,
    profile: Annotated[
        str,
        typer.Option(help=f"Device: {', '.join(available_profiles())}, or a JSON file."),
    ] = "h200-llama8b",
    policy: Annotated[str, typer.Option(help=POLICY_HELP)] = "stock,priority,lamps",
    rate: Annotated[
        str | None, typer.Option(help="Comma-separated sessions per second (Poisson).")
    ] = None,
    concurrency: Annotated[
        str | None,
        typer.Option(help="Comma-separated numbers of sessions at a time (closed loop)."),
    ] = None,
    sessions: Annotated[
        int | None, typer.Option(help="Sessions to generate, or the first so many of the file.")
    ] = None,
    total: Annotated[
        int | None,
        typer.Option(min=1, help="Closed loop: sessions in all; the source's over and over."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs per policy and load.")] = 1,
    engines: Annotated[int, typer.Option(min=1, help="Replicas behind a router.")] = 1,
    router: Annotated[
        str, typer.Option(help=f"How turns are routed: {', '.join(lamps_ext.sim_routers())}.")
    ] = "sticky",
    host_gib: Annotated[
        str, typer.Option(help="Comma-separated sizes of the host tier, GiB; 0: none.")
    ] = "0",
    host: Annotated[
        HostTier,
        typer.Option(help="Who fills it: vLLM's offloading, or the policy's decisions."),
    ] = HostTier.OFFLOAD,
    kv_tokens: Annotated[
        int | None, typer.Option(min=16, help="KV tokens, instead of the profile's.")
    ] = None,
    prefix_caching: Annotated[bool, typer.Option(help="vLLM's prefix cache.")] = True,
    prediction: Annotated[
        str,
        typer.Option(
            help="What clients predict about lengths and call times: own (nothing), given (the "
            "file's expected_output_tokens), oracle, gauss:PERCENT."
        ),
    ] = "own",
    read_calls: Annotated[
        bool,
        typer.Option(
            help="Tool calls are read from the turns' tokens at their end, as a server does."
        ),
    ] = True,
    tool_hints: Annotated[bool, typer.Option(help="Clients name the tool they call.")] = False,
    final_hints: Annotated[bool, typer.Option(help="Clients say which turn is the last.")] = False,
    call_factor: Annotated[float, typer.Option(help="Factor on the call times.")] = 1.0,
    call_cap: CallCap = 3600.0,
    context_factor: ContextFactor = 1.0,
    gaps: GapsOption = Gaps.CORRECTED,
    share_prefix: SharePrefix = False,
    subagents: SubAgents = True,
    capacity: Annotated[
        bool,
        typer.Option(
            "--find-capacity",
            help="Find the highest load under the SLO; the largest --rate or --concurrency bounds "
            "the search.",
        ),
    ] = False,
    slo_ttft_p99: Annotated[
        float | None, typer.Option(help="SLO: p99 of the TTFT of all turns, seconds.")
    ] = None,
    slo_session_p99: Annotated[
        float | None, typer.Option(help="SLO: p99 of session time without tools, seconds.")
    ] = None,
    slo_session_mean: Annotated[
        float | None, typer.Option(help="SLO: mean session time without tools, seconds.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. Default: every core.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for results.json, results.csv and report.html."),
    ] = None,
) -> None:
    """Simulate policies on a trace or a generated load, at the scale of your GPUs, in seconds."""
    with fail_on(WorkloadError, SimulationError, PaceError, PredictionError):
        base = Case(
            source=Source(
                source,
                sessions=sessions,
                call_factor=call_factor,
                call_cap=call_cap,
                context_factor=context_factor,
                gaps=gaps,
                share_prefix=share_prefix,
                subagents=subagents,
            ),
            profile=profile,
            arm=split_arms("stock")[0],
            load=Load(LoadKind.GIVEN),
            total=total,
            engines=engines,
            router=router,
            host=host,
            kv_tokens=kv_tokens,
            prefix_caching=prefix_caching,
            prediction=Prediction.parse(prediction),
            read_calls=read_calls,
            tool_hints=tool_hints,
            final_hints=final_hints,
            detail=output is not None,
        )
        cases = _cases(base, policy, _loads(rate, concurrency), _numbers(host_gib), seeds)
        if capacity:
            limits = Limits(slo_ttft_p99, slo_session_p99, slo_session_mean)
            _find(cases, limits, workers)
            return
        outcomes = _run(cases, workers)
    _show(outcomes, f"{source} on {profile}")
    if output is not None:
        _write(output, outcomes, source, profile)
    if not all(outcome.more.complete for outcome in outcomes):
        raise typer.Exit(FAILED)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise SimulationError(f"{text!r}: expected numbers separated by commas") from error


def _loads(rate: str | None, concurrency: str | None) -> list[Load]:
    if rate and concurrency:
        raise SimulationError("rate and concurrency: give one of them")
    if rate:
        return [Load(LoadKind.RATE, value) for value in _numbers(rate)]
    if concurrency:
        return [Load(LoadKind.CONCURRENCY, value) for value in _numbers(concurrency)]
    return [Load(LoadKind.GIVEN)]


def _cases(
    base: Case, policies: str, loads: Sequence[Load], host: Sequence[float], seeds: int
) -> list[Case]:
    """Every combination; each checked before anything runs."""
    cases = [
        replace(base, arm=arm, load=load, host_gib=gib, seed=seed, detail=base.detail and seed == 0)
        for load in loads
        for gib in host
        for arm in split_arms(policies)
        for seed in range(seeds)
    ]
    for case in cases:
        case.engine()
    return cases


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, refresh_per_second=2) as progress:
        yield progress


def _run(cases: Sequence[Case], workers: int | None) -> list[Outcome]:
    with _progress() as progress:
        task = progress.add_task("simulating", total=len(cases))
        done = [0.0] * len(cases)

        def on_progress(index: int, share: float) -> None:
            done[index] = max(done[index], share)
            progress.update(task, completed=sum(done))

        return run_cases(cases, workers=workers, on_progress=on_progress)


def _find(cases: Sequence[Case], limits: Limits, workers: int | None) -> None:
    """The highest load of every policy and seed; the cases' largest load bounds the search."""
    if limits == Limits():
        raise SimulationError("find-capacity: give an SLO (--slo-ttft-p99, --slo-session-p99, ...)")
    if cases[0].load.kind is LoadKind.GIVEN:
        raise SimulationError("find-capacity: give the highest --rate or --concurrency to try")
    highest = max(case.load.value for case in cases)
    searched = [replace(case, detail=False) for case in cases if case.load == cases[0].load]
    with _progress() as progress:
        task = progress.add_task("searching", total=len(searched))

        def on_found(found: Capacity) -> None:
            progress.update(task, advance=1)

        found = find_capacities(searched, limits, highest, workers=workers, on_found=on_found)
    out.print(capacity_table(found, "highest load within the limits"))


def _show(outcomes: Sequence[Outcome], title: str) -> None:
    """The summary, ratios where there is one load, and what is doubtful."""
    out.print(summary_table(outcomes, title, out.width))
    loads = list(dict.fromkeys(outcome.load for outcome in outcomes))
    policies = list(dict.fromkeys(outcome.policy for outcome in outcomes))
    if len(loads) == 1 and len(policies) > 1:
        runs = runs_by_policy(outcomes, loads[0])
        out.print(comparison_table(runs, policies[0], f"ratios to {policies[0]}"))
    cut = max(outcome.more.cut_sessions for outcome in outcomes)
    if cut:
        err.print(
            f"[bold yellow]note:[/] {cut} sessions dropped or ended early: larger contexts "
            "than the engine takes"
        )
    for outcome in outcomes:
        if outcome.metrics.failed:
            err.print(
                f"[bold yellow]warning:[/] {outcome.policy}, {outcome.load}, seed {outcome.seed}: "
                f"{outcome.metrics.failed} sessions did not finish"
            )
    seconds = sum(outcome.more.wall_seconds for outcome in outcomes)
    steps = sum(outcome.more.steps for outcome in outcomes)
    out.print(f"{len(outcomes)} runs, {steps:,} engine steps in {seconds:.1f} s of simulation")


def _write(folder: Path, outcomes: Sequence[Outcome], source: str, profile: str) -> None:
    """results.json, results.csv and report.html."""
    from lamps_vllm.simulate.plots import sections  # noqa: PLC0415  (matplotlib: half a second)

    command = shlex.join(["lamps", *sys.argv[1:]])
    settings = {"source": source, "profile": profile, "build": lamps_ext.build_info()}
    save_json(folder / "results.json", as_json(outcomes, settings, command))
    (folder / "results.csv").write_text(csv_text(outcomes), encoding="utf-8")
    notes = [load_profile(profile).description, "Simulated: no model ran."]
    text = page(
        outcomes, sections(outcomes), title=f"{Path(source).name} on {profile}", command=command,
        notes=notes,
    )  # fmt: skip
    (folder / "report.html").write_text(text, encoding="utf-8")
    out.print(f"{folder / 'report.html'}\n{folder / 'results.json'}")
