# SPDX-License-Identifier: Apache-2.0
"""An engine that is much faster than the calls: the order of newcomers follows its time scale."""

import numpy as np
from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from lamps_vllm.pace import PaceProfile
from lamps_vllm.replay.generate import MixOptions, generate_mix
from lamps_vllm.replay.metrics import measure
from lamps_vllm.replay.records import Identity
from lamps_vllm.scheduler import LampsScheduler
from tests.support.lockstep import make_config, make_scheduler, replay

FAST = PaceProfile(base_s=0.0025, per_prefill_token_s=0.000025, per_request_s=0.000075)


def test_large_sessions_do_not_wait_out_a_horizon_that_is_long_for_the_engine():
    stock, lamps = (
        measure(
            replay(
                generate_mix(np.random.default_rng(0), MixOptions(sessions=120, rate=14.0)),
                make_scheduler(scheduler, make_config(blocks=140)),
                pace=FAST, identity=identity, seed=0,
            )
        )
        for scheduler, identity in (
            (AsyncScheduler, Identity.NONE), (LampsScheduler, Identity.SESSION_ID),
        )
    )  # fmt: skip
    assert lamps.failed == stock.failed == 0
    assert lamps.session_mean < 0.5 * stock.session_mean
    assert lamps.session_p99 < 0.9 * stock.session_p99  # 1.2 with the horizon alone
