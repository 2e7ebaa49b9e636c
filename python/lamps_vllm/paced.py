# SPDX-License-Identifier: Apache-2.0
"""A vLLM CPU worker whose steps take the time of a profile.

    vllm serve MODEL --worker-cls lamps_vllm.paced.PacedCPUWorker \
        --additional-config '{"lamps_pace": "cpu-demo"}'

Results from a paced engine are simulated in one respect, the step time, and must say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.platforms import current_platform
from vllm.v1.worker.cpu_worker import CPUWorker

from lamps_vllm.pace import PaceError, Pacer, logger, profile_from_config

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import GrammarOutput, SchedulerOutput


class PacedCPUWorker(CPUWorker):
    """`CPUWorker` padded to a modelled step time; a bad profile stops the start (PaceError)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not current_platform.is_cpu():
            name = current_platform.device_name
            raise PaceError(f"{type(self).__name__} paces vLLM on a CPU; this is {name}")
        super().__init__(*args, **kwargs)
        self._pacer = Pacer(profile_from_config(self.vllm_config.additional_config))
        self._step_started = 0.0
        self._step_modelled = 0.0

    def execute_model(self, scheduler_output: SchedulerOutput) -> Any:
        started = self._pacer.clock()
        modelled = self._pacer.modelled_seconds(scheduler_output)
        output = super().execute_model(scheduler_output)
        if output is None:
            # vLLM samples in a second call, which belongs to the same step: pad there.
            self._step_started, self._step_modelled = started, modelled
        else:
            self._pacer.finish_step(started, modelled)
        return output

    def sample_tokens(self, grammar_output: GrammarOutput | None) -> Any:
        output = super().sample_tokens(grammar_output)
        self._pacer.finish_step(self._step_started, self._step_modelled)
        self._step_modelled = 0.0
        return output

    def shutdown(self) -> None:
        # vLLM also calls this on a worker whose start failed.
        pacer = getattr(self, "_pacer", None)
        if pacer is not None and pacer.steps:
            logger.info("%s", pacer.summary())
        super().shutdown()
