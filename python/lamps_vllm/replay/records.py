# SPDX-License-Identifier: Apache-2.0
"""What a replay records, per turn and per session. Times are seconds since the replay started."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Identity(StrEnum):
    """What a request tells the server about the session it belongs to.

    ``tools``: nothing but the tool that a turn calls, as the tokens of a real model would show it.
    ``final``: the session, and which turn is its last.
    ``oracle``: the session, and hints about everything that will happen.
    """

    SESSION_ID = "session_id"
    NONE = "none"
    PRIORITY = "priority"
    TOOLS = "tools"
    FINAL = "final"
    ORACLE = "oracle"


class TurnRecord(BaseModel):
    """One request. `planned` is when an ideal client would have sent it."""

    model_config = ConfigDict(extra="forbid")

    index: int
    planned: float
    sent: float
    first_token: float | None = None
    end: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int = 0
    http_status: int | None = None
    error: str | None = None

    @property
    def send_lag(self) -> float:
        return self.sent - self.planned

    @property
    def ttft(self) -> float | None:
        return None if self.first_token is None else self.first_token - self.sent


class SessionRecord(BaseModel):
    """One session; `tool_seconds` is the time its tools took in the plan."""

    model_config = ConfigDict(extra="forbid")

    id: str
    arrival: float
    tool_seconds: float
    planned_turns: int
    turns: list[TurnRecord] = []

    @property
    def error(self) -> str | None:
        """Why the session did not finish, or None."""
        if self.turns and self.turns[-1].error:
            return self.turns[-1].error
        return None if len(self.turns) == self.planned_turns else "not finished"

    @property
    def server_seconds(self) -> float | None:
        """From planned arrival to the last token, minus tool time; None if it failed."""
        end = self.turns[-1].end if self.turns else None
        if self.error or end is None:
            return None
        return end - self.arrival - self.tool_seconds


class ReplayResult(BaseModel):
    """Every session of one replay, finished or not."""

    model_config = ConfigDict(extra="forbid")

    base_url: str
    model: str
    identity: Identity
    seed: int
    forced_lengths: bool
    sessions: list[SessionRecord]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> ReplayResult:
        return cls.model_validate_json(path.read_text(encoding="utf-8"))
