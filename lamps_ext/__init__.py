# SPDX-License-Identifier: Apache-2.0
"""The compiled policy core (C++), re-exported by name."""

from lamps_ext._core import (
    ADMITTED,
    ARRIVE,
    FINISHED,
    PREEMPTED,
    PRESSURE,
    RELEASED,
    SKIPPED,
    STEP,
    CostParameters,
    Engine,
    InvalidOption,
    InvariantViolation,
    LampsError,
    Options,
    PolicyCore,
    ReadyQueue,
    UnknownHandle,
    build_info,
)

__all__ = [
    "ADMITTED",
    "ARRIVE",
    "FINISHED",
    "PREEMPTED",
    "PRESSURE",
    "RELEASED",
    "SKIPPED",
    "STEP",
    "CostParameters",
    "Engine",
    "InvalidOption",
    "InvariantViolation",
    "LampsError",
    "Options",
    "PolicyCore",
    "ReadyQueue",
    "UnknownHandle",
    "build_info",
]
