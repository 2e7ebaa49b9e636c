# SPDX-License-Identifier: Apache-2.0
"""Random valid histories of a policy core: its sums, its promises and its waiting bound."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import lamps_ext
from tests.support.policy_model import PolicyModel

CAPACITY, BLOCK = 640, 16
COST = lamps_ext.CostParameters()
LEAST_SHARE = 0.8
OVERDUE_STEPS, OVERDUE_SECONDS, FORGET = 4, 2.0, 50.0
HINTS = st.one_of(
    st.none(),
    st.tuples(
        st.sampled_from([-1.0, 1.0, 40.0, 400.0]),
        st.sampled_from([-1.0, 0.0, 0.5, 600.0]),
        st.sampled_from(["", "search"]),
        st.booleans(),
    ),
)


class PolicyMachine(RuleBasedStateMachine):
    lets_in = True  # whether an empty engine has to let somebody in
    spare = 0  # how many more than there are slots may be let in

    @initialize(
        preserve=st.booleans(), weight=st.sampled_from([0.0, 20.0, 500.0]), recording=st.booleans()
    )
    def start(self, preserve, weight, recording):
        self.begin(PolicyModel, preserve=preserve, weight=weight, recording=recording)

    def begin(self, model, *, preserve, weight, recording, policy="lamps", host=0, cost=COST):
        options = lamps_ext.Options()
        options.policy = policy
        options.cost = cost
        options.starvation_threshold, options.starvation_seconds = OVERDUE_STEPS, OVERDUE_SECONDS
        options.score_update_interval, options.forget_seconds = 2, FORGET
        options.preserve, options.rank_weight = preserve, weight
        options.min_admission_share = LEAST_SHARE
        engine = lamps_ext.Engine(
            capacity_tokens=CAPACITY, block_tokens=BLOCK, max_context=CAPACITY, step_tokens=2048,
            host_tokens=host,
        )  # fmt: skip
        core = lamps_ext.PolicyCore(engine, options)
        core.record_decisions(recording)
        self.final: set[int] = set()  # handles whose client said that no turn follows
        self.m = model(core, CAPACITY, BLOCK, OVERDUE_STEPS)

    @rule(session=st.integers(0, 9), prompt=st.integers(1, 500), hints=HINTS)
    def arrive(self, session, prompt, hints):
        before = set(self.m.turns)
        self.m.arrive(session, prompt, hints)
        if hints is not None and hints[3]:
            self.final |= set(self.m.turns) - before

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 1.0, 3.0, 30.0]))
    def time_passes(self, seconds):
        self.m.now += seconds

    @rule(data=st.data(), slots=st.integers(0, 6))
    def step(self, data, slots):
        plan = self.checked_step(slots)
        for handle in plan[0]:
            if data.draw(st.integers(0, 5), label="skip") == 0:
                self.m.events.append((lamps_ext.SKIPPED, handle))
            else:
                self.m.admit(handle)

    @rule(data=st.data(), count=st.integers(1, 100))
    @precondition(lambda self: self.m.running())
    def grow(self, data, count):
        turn = self.m.turns[data.draw(st.sampled_from(self.m.running()))]
        if self.m.free() >= self.m.blocks(count) + BLOCK and turn.context + count <= CAPACITY:
            turn.context += count

    @rule(data=st.data(), keep=st.booleans())
    @precondition(lambda self: self.m.running())
    def finish(self, data, keep):
        self.end(data.draw(st.sampled_from(self.m.running())), keep=keep)

    @rule(data=st.data())
    @precondition(lambda self: self.m.turns)
    def abort(self, data):
        self.end(data.draw(st.sampled_from(sorted(self.m.turns))), keep=False, aborted=True)

    @rule(data=st.data())
    @precondition(lambda self: self.m.running())
    def preempt(self, data):
        self.m.preempt(data.draw(st.sampled_from(self.m.running())))

    @rule(need=st.integers(1, CAPACITY))
    def pressure(self, need):
        self.m.make_room(need, None)

    @rule()
    def reset(self):
        for session in list(self.m.held):
            self.m.let_go(session, (lamps_ext.RELEASED, session))

    @rule(load=st.tuples(st.integers(0, 2048), st.integers(0, 64), st.integers(0, CAPACITY)),
          seconds=st.sampled_from([0.0, 0.01, 0.5, 100.0]))  # fmt: skip
    def observe(self, load, seconds):
        self.m.events.append((lamps_ext.STEP, *load, seconds))

    def end(self, handle, *, keep, aborted=False):
        final = handle in self.final
        self.final.discard(handle)
        self.m.finish(handle, keep=keep and not final, aborted=aborted, final=final)

    def checked_step(self, slots: int):
        model, core = self.m, self.m.core
        plan = model.begin_step(slots)
        core.check_invariants()
        core.take_decisions()
        report, waiting, running = core.report(), model.waiting(), model.running()
        assert report["waiting"] == len(waiting)
        assert report["running"] == len(running)
        assert report["running_context"] == sum(model.turns[handle].context for handle in running)
        assert report["held_tokens"] == sum(model.held.values())
        assert report["holders"] == len(model.held)
        assert report["sessions"] == len(model.sessions)
        assert report["waiting_need"] >= 0 and report["running_growth"] >= 0
        assert LEAST_SHARE <= report["admission_share"] <= 1.0
        admit, run_order = plan[0], plan[3]
        assert not run_order or sorted(run_order) == sorted(running)
        order = core.waiting_order(10_000)
        assert sorted(order) == sorted(waiting), "a waiting request is lost"
        assert len(set(admit)) == len(admit) and set(admit) <= set(waiting)
        assert len(admit) <= slots + self.spare
        self.check_order(admit, order)
        if not running and waiting and slots and self.lets_in:
            assert admit, "an empty engine must let somebody in"
        return plan

    def check_order(self, admit, order):
        model = self.m
        assert model.core.report()["waiting_bound_s"] >= OVERDUE_SECONDS
        waits = [handle for handle in order if model.turns[handle].overdue]
        overdue = [handle for handle in waits if not model.turns[handle].newcomer]
        assert order[: len(overdue)] == overdue, "an overdue request was overtaken"
        younger = [handle for handle in admit if handle not in overdue]
        assert not younger or set(overdue) <= set(admit), "an overdue request was passed over"
        ages = [self.age_of(handle) for handle in overdue]
        assert ages == sorted(ages), "overdue requests go by the age of their sessions"
        # Another turn of its session, at work at the same time, may have left KV for it.
        newcomers = [
            h for h in order if model.turns[h].newcomer and model.turns[h].session not in model.held
        ]
        for place, handle in enumerate(newcomers):
            if model.turns[handle].overdue:
                before = [self.age_of(each) for each in newcomers[: place + 1]]
                assert max(before) == self.age_of(handle), (
                    "a younger one goes before an overdue one"
                )

    def age_of(self, handle):
        turn = self.m.turns[handle]
        return self.m.sessions[turn.session], turn.sequence

    def teardown(self):
        if not hasattr(self, "m"):
            return
        for _ in range(4 * len(self.m.turns) + 1):  # everybody is served once the engine empties
            for handle in self.m.running():
                self.end(handle, keep=True)
            for handle in self.checked_step(64)[0]:
                self.m.admit(handle)
        assert not self.m.turns, f"never served: {self.m.turns}"
        for _ in range(3):  # and forgotten once nobody comes back
            self.m.now += FORGET
            self.checked_step(64)
        assert not self.m.sessions and not self.m.held
