# SPDX-License-Identifier: Apache-2.0
"""How well sessions are recognised by their prompts alone, on recorded agent sessions.

    python benchmarks/python/session_inference.py AGENT.jsonl.gz [--copies 3] [--forks 0.05]

One session a line with `shared_prefix` (tokens of system prompt and tools), `prefix_group` (sessions of
a group share that prefix) and `turns`: `t` (s after the session's start), `in` and `out` (tokens), `new`
(tokens beyond the prefix shared with the previous prompt) and `model_time`; `subagents` have turns of their
own. Lengths become tokens: a prefix per group, everything else unlike anything else, prompts cut back as
far as `new` says. A share of the turns is also branched (--forks): a second request continues the same
context while the turn runs, and goes on for three turns.

All sessions (times --copies) run together. Printed: what became of returning turns, by how much of the
previous prompt was left, and the time of a lookup in microseconds.
"""

import argparse
import gzip
import heapq
import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lamps_ext import SessionIndex

BLOCK = 16
EXTENDS, REWRITES, RESETS = (
    "extends the context",
    "rewrites its end",
    "keeps only the system prompt",
)


@dataclass
class Agent:
    """A client's session: what it sends, and the handle its last turn was given."""

    prefix: list[int]
    turns: list[dict[str, Any]]
    start: float
    handle: int = -1
    turn: int = 0
    prompt: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    output: list[int] = field(default_factory=list)
    is_fork: bool = False


class Tokens:
    """Tokens that nobody has had before."""

    def __init__(self) -> None:
        self.next = 1 << 20

    def take(self, count: int) -> list[int]:
        self.next += count
        return list(range(self.next - count, self.next))


def chain(tokens: list[int], known: list[bytes], common: int) -> list[bytes]:
    """Hashes of the whole blocks; the first `common` tokens are those that `known` was made of."""
    hashes = known[: common // BLOCK]
    state = int.from_bytes(hashes[-1], "little") if hashes else 0
    for i in range(len(hashes) * BLOCK, len(tokens) - BLOCK + 1, BLOCK):
        state = hash((state, *tokens[i : i + BLOCK])) & (2**64 - 1)
        hashes.append(state.to_bytes(8, "little"))
    return hashes


def next_prompt(agent: Agent, fresh: Tokens) -> tuple[list[int], int, str]:
    """The agent's next prompt, how much of the previous one it keeps, and what kind of turn it is."""
    turn = agent.turns[agent.turn]
    if agent.turn == 0:
        shared = min(len(agent.prefix), turn["in"])
        return agent.prefix[:shared] + fresh.take(turn["in"] - shared), 0, ""
    kept = min(turn["in"] - turn["new"], len(agent.prompt))
    whole = [*agent.prompt, *agent.output]
    if kept >= len(agent.prompt) - 64:  # `new` is counted in blocks of 64
        grown = max(turn["in"] - len(whole), 8)
        return whole + fresh.take(grown), len(agent.prompt), EXTENDS
    kind = RESETS if kept <= len(agent.prefix) + 64 else REWRITES
    kept = min(kept, len(agent.prefix)) if kind == RESETS else kept
    return agent.prompt[:kept] + fresh.take(turn["in"] - kept), kept, kind


def agents_of(sessions: list[dict[str, Any]], copies: int, fresh: Tokens) -> list[Agent]:
    prefixes: dict[tuple[Any, int], list[int]] = {}
    agents = []
    rng = np.random.default_rng(0)
    for copy in range(copies):
        for session in sessions:
            start = float(rng.uniform(0, 3600))
            lines = [(session, "main", 0.0)]
            lines += [(sub, "sub", sub["start"]) for sub in session["subagents"]]
            for line, kind, offset in lines:
                length = line["shared_prefix"]
                group = (kind, session["prefix_group"], length)
                prefix = prefixes.setdefault(group, []) or fresh.take(length)
                prefixes[group] = prefix
                agents.append(Agent(prefix, line["turns"], start + offset + copy * 0.5))
    return agents


class Study:
    def __init__(self, share_of_forks: float) -> None:
        self.index = SessionIndex(BLOCK)
        self.fresh = Tokens()
        self.rng = np.random.default_rng(1)
        self.forks = share_of_forks
        self.owner: dict[int, Agent] = {}
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.lookups: list[tuple[int, float]] = []
        self.queue: list[tuple[float, int, str, Agent]] = []
        self.order = 0

    def at(self, when: float, what: str, agent: Agent) -> None:
        self.order += 1
        heapq.heappush(self.queue, (when, self.order, what, agent))

    def run(self, agents: list[Agent]) -> None:
        for agent in agents:
            self.at(agent.start + agent.turns[0]["t"], "begin", agent)
        while self.queue:
            now, _, what, agent = heapq.heappop(self.queue)
            self.begin(now, agent) if what == "begin" else self.finish(now, agent)

    def begin(self, now: float, agent: Agent) -> None:
        prompt, common, kind = next_prompt(agent, self.fresh)
        hashes = chain(prompt, agent.hashes, common)
        started = time.perf_counter()
        relation, found, _ = self.index.find(hashes, prompt)
        self.lookups.append((len(prompt), time.perf_counter() - started))
        goes_on = relation in (SessionIndex.CONTINUES, SessionIndex.EDITS)
        handle = found if goes_on else len(self.owner)
        right = self.owner.get(handle) is agent
        if kind:
            outcome = "matched" if right else "wrong" if goes_on else "new session"
            self.outcomes[kind + (", fork" if agent.is_fork else "")][outcome] += 1
        elif goes_on:
            self.outcomes["first turn"]["wrong"] += 1
        else:
            self.outcomes["first turn"]["new session"] += 1
        self.owner[handle] = agent
        self.index.begin(handle, hashes, prompt)
        agent.handle, agent.prompt, agent.hashes = handle, prompt, hashes
        seconds = agent.turns[agent.turn]["model_time"]
        self.at(now + seconds, "finish", agent)
        if agent.turn and not agent.is_fork and self.rng.random() < self.forks:
            branch = {"t": 0.0, "in": len(prompt) + 500, "new": 500, "out": 200, "model_time": 2.0}
            turns = [{**branch, "t": 10.0 * i, "in": branch["in"] + 700 * i} for i in range(3)]
            turns[0]["in"] = len(prompt) + 500
            child = Agent(prompt, turns, now, hashes=hashes, is_fork=True)
            self.at(now + 0.5 * seconds, "begin", child)

    def finish(self, now: float, agent: Agent) -> None:
        turn = agent.turns[agent.turn]
        agent.output = self.fresh.take(turn["out"])
        whole = [*agent.prompt, *agent.output]
        agent.hashes = chain(whole, agent.hashes, len(agent.prompt))
        self.index.finish(agent.handle, agent.hashes, False)
        agent.turn += 1
        if agent.turn < len(agent.turns):
            pause = agent.turns[agent.turn]["t"] - turn["t"] - turn["model_time"]
            self.at(now + max(pause, 0.01), "begin", agent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sessions", type=Path)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument(
        "--forks", type=float, default=0.05, help="share of turns that are branched"
    )
    args = parser.parse_args()
    opener = gzip.open if args.sessions.suffix == ".gz" else open
    with opener(args.sessions, "rt", encoding="utf-8") as lines:
        sessions = [json.loads(line) for line in lines]

    study = Study(args.forks)
    study.run(agents_of(sessions, args.copies, study.fresh))
    study.index.check_invariants()
    table = Table("turn", "turns", "matched, %", "new session, %", "wrong, %")
    for kind, outcomes in sorted(study.outcomes.items()):
        total = sum(outcomes.values())
        shares = [100 * outcomes[o] / total for o in ("matched", "new session", "wrong")]
        table.add_row(kind, str(total), *(f"{share:.3f}" for share in shares))
    console = Console()
    console.print(table)
    times = np.array([seconds for length, seconds in study.lookups if length >= 100_000]) * 1e6
    console.print(
        f"lookup of a prompt of 100k tokens or more: median {np.median(times):.1f} us, "
        f"p99 {np.quantile(times, 0.99):.1f} us; {study.index.sessions} sessions, "
        f"{study.index.checkpoints} checkpoints"
    )


if __name__ == "__main__":
    main()
