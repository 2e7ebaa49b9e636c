# SPDX-License-Identifier: Apache-2.0
"""Options of the scheduler: ``--additional-config '{"lamps": {...}}'``.

Every field is optional; unknown fields and values outside their range stop the server's start.
docs/options.md explains each and says how its default was found.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import lamps_ext

_DEFAULT = lamps_ext.Options()


class OptionError(ValueError):
    """An option of ``additional_config["lamps"]`` is unknown, ill-typed or out of range."""


def core_options(changes: Mapping[str, Any]) -> "lamps_ext.Options":
    """The defaults of the C++ core but for `changes`; ranges are not looked at.

    Lowering `admission_share` alone is no contradiction: its minimum follows.
    """
    core = lamps_ext.Options()
    for name, value in changes.items():
        setattr(core, name, value)
    if "min_admission_share" not in changes:
        core.min_admission_share = min(core.min_admission_share, core.admission_share)
    return core


class LampsOptions(BaseModel):
    """What an operator may set. Times are seconds unless a name says otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    policy: str = _DEFAULT.policy
    """What decides, one of ``lamps_ext.policy_names()``."""
    rank_weight: float = Field(_DEFAULT.rank_weight, ge=0, le=1e6)
    rank_horizon: float = Field(_DEFAULT.rank_horizon, ge=0, le=1e6)
    starvation_threshold: int = Field(_DEFAULT.starvation_threshold, ge=1, le=1_000_000_000)
    starvation_seconds: float = Field(_DEFAULT.starvation_seconds, ge=0, le=1e6)
    score_update_interval: int = Field(_DEFAULT.score_update_interval, ge=1, le=1_000_000)
    admission_share: float = Field(_DEFAULT.admission_share, ge=0.1, le=1)
    min_admission_share: float = Field(_DEFAULT.min_admission_share, ge=0.1, le=1)
    redecide_seconds: float = Field(_DEFAULT.redecide_seconds, ge=1e-3, le=3600)
    forget_seconds: float = Field(_DEFAULT.forget_seconds, ge=1, le=1e7)
    preserve: bool = _DEFAULT.preserve
    victim_hysteresis: float = Field(_DEFAULT.victim_hysteresis, ge=0, le=10)
    decision_log: str | None = None
    """Path of a JSONL file that gets one line per decision; None: no log."""

    @classmethod
    def from_additional_config(cls, additional_config: Any) -> "LampsOptions":
        """Reads the ``lamps`` entry of vLLM's ``--additional-config``.

        Raises:
            OptionError: names every bad field, its value and what was expected.
        """
        given = additional_config.get("lamps", {}) if isinstance(additional_config, Mapping) else {}
        if not isinstance(given, Mapping):
            raise OptionError(f'additional_config["lamps"] = {given!r}: expected an object')
        try:
            options = cls(**given)
            options.to_core().validate()
        except ValidationError as error:
            raise OptionError(_explain(error)) from None
        except lamps_ext.InvalidOption as error:
            raise OptionError(f'additional_config["lamps"]: {error}') from None
        return options

    def to_core(self) -> "lamps_ext.Options":
        """The same options for the C++ core."""
        given = self.model_fields_set & set(dir(lamps_ext.Options))
        return core_options({name: getattr(self, name) for name in given})

    @property
    def log_path(self) -> Path | None:
        return Path(self.decision_log) if self.decision_log else None


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = ", ".join(sorted(LampsOptions.model_fields))
            lines.append(f"{name}: unknown option; known are {known}")
        else:
            lines.append(f"{name} = {item['input']!r}: {item['msg']}")
    return 'additional_config["lamps"]: ' + "; ".join(lines)
