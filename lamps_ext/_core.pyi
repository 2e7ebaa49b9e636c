# SPDX-License-Identifier: Apache-2.0
# Generated from the module by `make stub`; a test compares the two.
"""
LAMPS policy core: who goes next, whose KV stays, who may come in.
"""

from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing

__all__: list[str] = [
    "ADMITTED",
    "ARRIVE",
    "BadSnapshot",
    "COPY",
    "CallKind",
    "CostParameters",
    "DeviceError",
    "Engine",
    "FINISHED",
    "HOST_LOST",
    "HostTier",
    "InvalidOption",
    "InvariantViolation",
    "LOADED",
    "LampsError",
    "MovePlanner",
    "Mover",
    "Options",
    "OutOfHostMemory",
    "PREEMPTED",
    "PRESSURE",
    "PolicyCore",
    "Predictor",
    "RELEASED",
    "ReadyQueue",
    "SKIPPED",
    "STEP",
    "SWAPPED_OUT",
    "SessionIndex",
    "SimEngine",
    "SimHistogram",
    "SimLoad",
    "SimResult",
    "SimSessions",
    "Simulation",
    "SnapshotWriter",
    "TurnFacts",
    "UnknownHandle",
    "build_info",
    "calibrate",
    "cuda_device_name",
    "match_blocks",
    "policy_names",
    "sim_loads",
    "sim_routers",
    "sim_schedulers",
    "why_no_cuda",
]

class LampsError(RuntimeError):
    pass

class InvalidOption(LampsError):
    pass

class UnknownHandle(LampsError):
    pass

class BadSnapshot(LampsError):
    pass

class InvariantViolation(LampsError):
    pass

class CostParameters:
    """
    What a step costs at start; calibrated online. Seconds, bytes.
    """
    def __init__(self) -> None: ...
    @property
    def base(self) -> float: ...
    @base.setter
    def base(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def kv_bytes_per_token(self) -> int: ...
    @kv_bytes_per_token.setter
    def kv_bytes_per_token(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def per_context(self) -> float: ...
    @per_context.setter
    def per_context(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def per_decode(self) -> float: ...
    @per_decode.setter
    def per_decode(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def per_prefill(self) -> float: ...
    @per_prefill.setter
    def per_prefill(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def swap_bytes_per_s(self) -> float: ...
    @swap_bytes_per_s.setter
    def swap_bytes_per_s(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...

class Options:
    """
    What an operator may set; ranges in csrc/lamps/options.h.
    """

    cost: CostParameters
    preserve: bool
    def __init__(self) -> None: ...
    def validate(self) -> None:
        """
        Raises InvalidOption naming the first value outside its range.
        """
    @property
    def admission_share(self) -> float: ...
    @admission_share.setter
    def admission_share(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def forget_seconds(self) -> float: ...
    @forget_seconds.setter
    def forget_seconds(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def min_admission_share(self) -> float: ...
    @min_admission_share.setter
    def min_admission_share(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def policy(self) -> str:
        """
        Name of the policy, one of policy_names().
        """
    @policy.setter
    def policy(self, arg1: str) -> None: ...
    @property
    def rank_horizon(self) -> float: ...
    @rank_horizon.setter
    def rank_horizon(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def rank_weight(self) -> float: ...
    @rank_weight.setter
    def rank_weight(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def redecide_seconds(self) -> float: ...
    @redecide_seconds.setter
    def redecide_seconds(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def score_update_interval(self) -> int: ...
    @score_update_interval.setter
    def score_update_interval(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def starvation_seconds(self) -> float: ...
    @starvation_seconds.setter
    def starvation_seconds(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def starvation_threshold(self) -> int: ...
    @starvation_threshold.setter
    def starvation_threshold(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def victim_hysteresis(self) -> float: ...
    @victim_hysteresis.setter
    def victim_hysteresis(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...

class Engine:
    """
    What the engine is: KV capacity, block size, longest context, tokens per step, host tier.
    """
    def __init__(
        self,
        *,
        capacity_tokens: typing.SupportsInt | typing.SupportsIndex,
        block_tokens: typing.SupportsInt | typing.SupportsIndex,
        max_context: typing.SupportsInt | typing.SupportsIndex,
        step_tokens: typing.SupportsInt | typing.SupportsIndex,
        host_tokens: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    @property
    def block_tokens(self) -> int: ...
    @property
    def capacity_tokens(self) -> int: ...
    @property
    def host_tokens(self) -> int: ...
    @property
    def max_context(self) -> int: ...
    @property
    def step_tokens(self) -> int: ...

class ReadyQueue:
    """
    Indexed heap of waiting requests; keys are (service_class, deadline, sequence), lowest first.
    """
    def __contains__(self, handle: typing.SupportsInt | typing.SupportsIndex) -> bool: ...
    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def check_invariants(self) -> None: ...
    def first(self, limit: typing.SupportsInt | typing.SupportsIndex) -> list[int]:
        """
        The first `limit` handles in order.
        """
    def pop(self) -> int:
        """
        Takes the first handle out, -1 when empty.
        """
    def push(
        self,
        handle: typing.SupportsInt | typing.SupportsIndex,
        key: tuple[
            typing.SupportsInt | typing.SupportsIndex,
            typing.SupportsFloat | typing.SupportsIndex,
            typing.SupportsInt | typing.SupportsIndex,
        ],
    ) -> None: ...
    def rekey(
        self,
        handle: typing.SupportsInt | typing.SupportsIndex,
        key: tuple[
            typing.SupportsInt | typing.SupportsIndex,
            typing.SupportsFloat | typing.SupportsIndex,
            typing.SupportsInt | typing.SupportsIndex,
        ],
    ) -> None: ...
    def remove(self, handle: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def top(self) -> int:
        """
        The first handle, -1 when empty.
        """

class PolicyCore:
    """
    The policy core of one engine; see csrc/lamps/policy.h.
    """
    def __init__(self, engine: Engine, options: Options) -> None: ...
    def begin_step(
        self,
        now: typing.SupportsFloat | typing.SupportsIndex,
        free_tokens: typing.SupportsInt | typing.SupportsIndex,
        step_tokens: typing.SupportsInt | typing.SupportsIndex,
        slots: typing.SupportsInt | typing.SupportsIndex,
        running: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
        context: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
        events: list,
    ) -> tuple:
        """
        Applies the events since the last step, then plans this one. Returns (admit, release, forget, run_order, drop_host, swap_out, prefetch, copy_ahead), lists of handles.
        """
    def check_invariants(self) -> None: ...
    def keeps(self) -> bool:
        """
        Whether the caller should keep a turn's KV when it finishes.
        """
    def prompt_class(self, tokens: list) -> int:
        """
        The class of a new session's prompt, by how it begins; counts it. -1: none yet.
        """
    def record_decisions(self, on: bool) -> None: ...
    def release_order(
        self,
        now: typing.SupportsFloat | typing.SupportsIndex,
        tokens: typing.SupportsInt | typing.SupportsIndex,
    ) -> list[int]:
        """
        Sessions that keep KV, cheapest to let go first, until `tokens` are covered.
        """
    def report(self) -> dict:
        """
        Counters, sums and the calibrated cost model.
        """
    def restore_predictions(self, snapshot: str) -> None:
        """
        Starts from what an earlier run learned. Raises BadSnapshot; then nothing has changed.
        """
    def return_scores(self) -> list:
        """
        (returned, ended) of calls by the decile of their predicted chance to return.
        """
    def scores(self) -> list:
        """
        How good predictions were, by tool, kind of call and class of requests.
        """
    def take_decisions(self) -> list:
        """
        Decisions recorded since the last call, oldest first.
        """
    def take_switches(self) -> list:
        """
        (what, name, off) of predictions switched off or on since the last call.
        """
    def waiting_order(self, limit: typing.SupportsInt | typing.SupportsIndex) -> list[int]:
        """
        The first `limit` waiting requests in service order.
        """

class SnapshotWriter:
    """
    Writes what a core's predictor knows, slice by slice.
    """
    def __init__(self, core: PolicyCore) -> None: ...
    def next(self, most: typing.SupportsInt | typing.SupportsIndex) -> str:
        """
        The next lines, at most `most` levels; empty when all has been written.
        """

class SimEngine:
    """
    A simulated engine: size, true step time, how it schedules.
    """
    def __init__(
        self,
        *,
        capacity_tokens: typing.SupportsInt | typing.SupportsIndex,
        block_tokens: typing.SupportsInt | typing.SupportsIndex = 16,
        max_context: typing.SupportsInt | typing.SupportsIndex,
        step_tokens: typing.SupportsInt | typing.SupportsIndex = 2048,
        max_running: typing.SupportsInt | typing.SupportsIndex = 256,
        base: typing.SupportsFloat | typing.SupportsIndex,
        per_prefill: typing.SupportsFloat | typing.SupportsIndex,
        per_decode: typing.SupportsFloat | typing.SupportsIndex,
        per_context: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        per_prefill_context: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        idle_step: typing.SupportsFloat | typing.SupportsIndex = 0.001,
        prefix_caching: bool = True,
        ahead: bool = False,
        host_tokens: typing.SupportsInt | typing.SupportsIndex = 0,
        host_bytes_per_s: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        kv_bytes_per_token: typing.SupportsInt | typing.SupportsIndex = 0,
        host: str = "offload",
    ) -> None: ...

class SimSessions:
    """
    Sessions by column; segments of session i are first_segment[i:i + 2].
    """
    def __init__(
        self,
        first_segment: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
        prompt_tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        output_tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        call_seconds: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        arrival: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        kept_tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32] | None = None,
        tool: typing.Annotated[numpy.typing.ArrayLike, numpy.int32] | None = None,
        tool_hints: bool = False,
        called: typing.Annotated[numpy.typing.ArrayLike, numpy.int32] | None = None,
        hint_output: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        hint_call: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        hint_final: typing.Annotated[numpy.typing.ArrayLike, numpy.uint8] | None = None,
        shared_group: typing.Annotated[numpy.typing.ArrayLike, numpy.int32] | None = None,
        shared_tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32] | None = None,
    ) -> None: ...
    def __len__(self) -> int: ...

class SimLoad:
    """
    When sessions start: given, poisson or closed.
    """
    def __init__(
        self,
        kind: str,
        *,
        rate: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        concurrency: typing.SupportsInt | typing.SupportsIndex = 0,
        sessions: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...

class SimHistogram:
    """
    Counts in bins 2 % wide.
    """
    def quantile(self, q: typing.SupportsFloat | typing.SupportsIndex) -> float: ...
    @property
    def count(self) -> int: ...
    @property
    def counts(self) -> numpy.typing.NDArray[numpy.int64]: ...
    @property
    def edges(self) -> numpy.typing.NDArray[numpy.float64]:
        """
        Bin edges, one more than counts.
        """
    @property
    def max(self) -> float: ...
    @property
    def mean(self) -> float: ...

class SimResult:
    """
    What a simulation recorded; columns are numpy arrays.
    """
    @property
    def complete(self) -> bool: ...
    @property
    def counters(self) -> dict: ...
    @property
    def decisions(self) -> list:
        """
        List of (handling, reason, tool, count).
        """
    @property
    def histograms(self) -> dict: ...
    @property
    def now(self) -> float: ...
    @property
    def reports(self) -> list:
        """
        PolicyCore.report() of every engine.
        """
    @property
    def samples(self) -> dict: ...
    @property
    def sessions(self) -> dict: ...
    @property
    def turns(self) -> dict: ...

class Simulation:
    """
    Engines in virtual time under a router, driving the policy core; deterministic.
    """
    def __init__(
        self,
        engine: SimEngine,
        sessions: SimSessions,
        load: SimLoad,
        options: Options = ...,
        *,
        scheduler: str = "core",
        engines: typing.SupportsInt | typing.SupportsIndex = 1,
        router: str = "sticky",
        record_turns: bool = True,
        sample_seconds: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        record_decisions: bool = False,
        check_every: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    def run(
        self,
        progress: typing.Any = None,
        every_steps: typing.SupportsInt | typing.SupportsIndex = 65536,
    ) -> SimResult:
        """
        Runs to the end, or until progress(now, sessions_ended, sessions) returns False; it is called every so many steps. Once per object.
        """

class CallKind:
    """
    What a session waits for between two turns.

    Members:

      UNKNOWN

      TOOL

      MESSAGE
    """

    MESSAGE: typing.ClassVar[CallKind]
    TOOL: typing.ClassVar[CallKind]
    UNKNOWN: typing.ClassVar[CallKind]
    __members__: typing.ClassVar[dict[str, CallKind]]
    @typing.overload
    def __eq__(self, other: CallKind) -> bool: ...
    @typing.overload
    def __eq__(self, other: typing.Any) -> bool: ...
    def __getstate__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __index__(self) -> int: ...
    def __init__(self, value: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __int__(self) -> int: ...
    @typing.overload
    def __ne__(self, other: CallKind) -> bool: ...
    @typing.overload
    def __ne__(self, other: typing.Any) -> bool: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, state: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __str__(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class TurnFacts:
    """
    What is known of a turn and of the call after it.
    """
    def __init__(
        self,
        *,
        turn: typing.SupportsInt | typing.SupportsIndex = 0,
        last_call: typing.SupportsFloat | typing.SupportsIndex = -1.0,
        tool: typing.SupportsInt | typing.SupportsIndex = -1,
        kind: CallKind = ...,
        prompt: typing.SupportsInt | typing.SupportsIndex = -1,
        cap_tokens: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...

class Predictor:
    """
    What is expected of turns and calls; see csrc/lamps/predictor.h.
    """
    def __init__(self) -> None: ...
    def call_quantile(
        self,
        facts: TurnFacts,
        elapsed: typing.SupportsFloat | typing.SupportsIndex,
        p: typing.SupportsFloat | typing.SupportsIndex,
    ) -> float: ...
    def observe_call(
        self, facts: TurnFacts, duration: typing.SupportsFloat | typing.SupportsIndex
    ) -> None: ...
    def observe_no_return(self, facts: TurnFacts) -> None: ...
    def observe_output(
        self, facts: TurnFacts, tokens: typing.SupportsInt | typing.SupportsIndex
    ) -> None: ...
    def observe_silence(
        self,
        facts: TurnFacts,
        elapsed: typing.SupportsFloat | typing.SupportsIndex,
        counted: typing.SupportsFloat | typing.SupportsIndex,
    ) -> float: ...
    def p_return(
        self, facts: TurnFacts, elapsed: typing.SupportsFloat | typing.SupportsIndex
    ) -> float: ...
    def patience(self) -> float: ...
    def remaining_call(
        self, facts: TurnFacts, elapsed: typing.SupportsFloat | typing.SupportsIndex
    ) -> float: ...
    def remaining_output(
        self, facts: TurnFacts, produced: typing.SupportsFloat | typing.SupportsIndex
    ) -> float: ...
    def still_out(
        self,
        facts: TurnFacts,
        elapsed: typing.SupportsFloat | typing.SupportsIndex,
        later: typing.SupportsFloat | typing.SupportsIndex,
    ) -> float: ...
    def tool_id(self, name: str) -> int: ...

class SessionIndex:
    """
    Which session a prompt belongs to; see csrc/lamps/session_index.h.
    """

    CONTINUES: typing.ClassVar[int] = 1
    EDITS: typing.ClassVar[int] = 2
    FORKS: typing.ClassVar[int] = 3
    NEW: typing.ClassVar[int] = 0
    def __init__(self, block_tokens: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def begin(
        self, session: typing.SupportsInt | typing.SupportsIndex, hashes: list, tokens: typing.Any
    ) -> None:
        """
        A turn of the session with this prompt has begun.
        """
    def check_invariants(self) -> None: ...
    def find(self, hashes: list, tokens: typing.Any) -> tuple[int, int, int]:
        """
        (relation, session or -1, blocks in common) of a prompt, by its blocks' hashes and its tokens (or None).
        """
    def finish(
        self, session: typing.SupportsInt | typing.SupportsIndex, hashes: list, aborted: bool
    ) -> None:
        """
        It has ended; the hashes are of prompt and output.
        """
    def forget(self, session: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def checkpoints(self) -> int: ...
    @property
    def sessions(self) -> int: ...

class OutOfHostMemory(LampsError):
    pass

class DeviceError(LampsError):
    pass

class HostTier:
    """
    Which sessions have KV in host memory, and where: the scheduler's side.
    """
    def __init__(self, rows: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        `rows`: blocks that fit into host memory.
        """
    def check_invariants(self) -> None: ...
    def drop(self, session: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def finished(self, job: typing.SupportsInt | typing.SupportsIndex, outcome: str) -> None:
        """
        All movers have finished; the worst outcome.
        """
    def jobs(self, session: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Jobs of the session under way.
        """
    def load(
        self,
        session: typing.SupportsInt | typing.SupportsIndex,
        first: typing.SupportsInt | typing.SupportsIndex,
        blocks: numpy.ndarray[typing.Any, numpy.dtype[typing.Any]],
    ) -> tuple:
        """
        An order to copy rows from `first` on into blocks.
        """
    def rows(self, session: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Complete rows of the session.
        """
    def slots(
        self,
        session: typing.SupportsInt | typing.SupportsIndex,
        first: typing.SupportsInt | typing.SupportsIndex,
        rows: typing.SupportsInt | typing.SupportsIndex,
    ) -> numpy.typing.NDArray[numpy.int32]:
        """
        For match_blocks().
        """
    def store(
        self,
        session: typing.SupportsInt | typing.SupportsIndex,
        blocks: numpy.ndarray[typing.Any, numpy.dtype[typing.Any]],
    ) -> typing.Any:
        """
        An order to copy blocks behind what the session has here; None if they do not fit.
        """
    def take_evicted(self) -> list[int]:
        """
        Sessions that lost their rows to others since the last call.
        """
    def touch(self, session: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def capacity(self) -> int: ...
    @property
    def free_rows(self) -> int: ...

class Mover:
    """
    Copies KV blocks on a thread of its own: the worker's side.
    """
    def __init__(
        self,
        regions: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
        blocks: typing.SupportsInt | typing.SupportsIndex,
        host_rows: typing.SupportsInt | typing.SupportsIndex,
        *,
        checksums: bool = False,
        threads: typing.SupportsInt | typing.SupportsIndex = 1,
        cuda_device: typing.SupportsInt | typing.SupportsIndex | None = None,
        calibration: dict = {},
    ) -> None:
        """
        `regions`: an int64 table of (address, stride, page bytes), one page of every block in each. `threads` are for the CPU, used where `cuda_device` is None.
        """
    def cancel(self, job: typing.SupportsInt | typing.SupportsIndex) -> bool:
        """
        The job ends as cancelled; False if it has ended. Its blocks stay in use until then.
        """
    def poll(self) -> list:
        """
        What has happened since the last call, as (job, finished, outcome, bytes, seconds copying, seconds since submit). Not finished: the blocks of a store are free already.
        """
    def stop(self) -> None:
        """
        Cancels all jobs and waits for copies in flight.
        """
    def submit(
        self,
        order: tuple,
        *,
        priority: typing.SupportsInt | typing.SupportsIndex = 0,
        deadline: typing.SupportsFloat | typing.SupportsIndex = ...,
        after_stream: typing.SupportsInt | typing.SupportsIndex | None = None,
    ) -> None:
        """
        Higher priority first, then earlier deadline. `after_stream`: handle of the CUDA stream whose work so far must be over. Returns at once.
        """
    def wait_idle(self, timeout: typing.SupportsFloat | typing.SupportsIndex) -> bool:
        """
        Whether no job is left, within seconds.
        """
    @property
    def host_address(self) -> int: ...
    @property
    def row_bytes(self) -> int: ...

class MovePlanner:
    """
    From lists of blocks to the fewest copies.
    """
    def __init__(
        self,
        regions: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
        blocks: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def plan(
        self,
        blocks: numpy.ndarray[typing.Any, numpy.dtype[typing.Any]],
        slots: numpy.ndarray[typing.Any, numpy.dtype[typing.Any]],
        host: typing.SupportsInt | typing.SupportsIndex,
        host_rows: typing.SupportsInt | typing.SupportsIndex,
        direction: str,
    ) -> numpy.typing.NDArray[numpy.uint64]:
        """
        Copies between blocks and the slots of an extent, as rows of (source, target, bytes). The array is the planner's memory: valid until the next call.
        """

def build_info() -> dict:
    """
    How this module was built: version, build_type, cuda (nvcc's version, or empty).
    """

def calibrate(
    *,
    threads: typing.SupportsInt | typing.SupportsIndex = 1,
    cuda_device: typing.SupportsInt | typing.SupportsIndex | None = None,
    scratch: typing.SupportsInt | typing.SupportsIndex = 0,
    scratch_bytes: typing.SupportsInt | typing.SupportsIndex = 134217728,
) -> tuple:
    """
    Measures copies for the Mover that has these options, in some tenths of a second: what to give it as `calibration`, and (page bytes, stores, loads) of scattered pages in bytes per second. `scratch`: with `cuda_device`, device memory that nobody uses; overwritten.
    """

def cuda_device_name(device: typing.SupportsInt | typing.SupportsIndex) -> str:
    """
    The device, its driver and where it is plugged in.
    """

def match_blocks(
    slots: numpy.ndarray[typing.Any, numpy.dtype[typing.Any]],
    blocks: numpy.ndarray[typing.Any, numpy.dtype[typing.Any]],
) -> numpy.typing.NDArray[numpy.int32]:
    """
    The blocks in the order that makes loading these slots the fewest copies.
    """

def policy_names() -> list:
    """
    Names of the policies, the default first.
    """

def sim_loads() -> list[str]: ...
def sim_routers() -> list[str]: ...
def sim_schedulers() -> list[str]: ...
def why_no_cuda() -> str:
    """
    Empty if there is a CUDA device to use.
    """

ADMITTED: int = 1
ARRIVE: int = 0
COPY: int = 10
FINISHED: int = 3
HOST_LOST: int = 11
LOADED: int = 9
PREEMPTED: int = 2
PRESSURE: int = 6
RELEASED: int = 4
SKIPPED: int = 7
STEP: int = 5
SWAPPED_OUT: int = 8
