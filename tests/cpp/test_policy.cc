// SPDX-License-Identifier: Apache-2.0
// What the policy core promises, call by call: order, pauses, sessions, victims.
// test_policy_admission.cc has who may enter, test_policy_runs.cc whole runs.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "lamps/errors.h"
#include "lamps/policy.h"
#include "policy_scene.h"

namespace lamps {
namespace {

using namespace testing;  // NOLINT: the vocabulary of the scene

TEST(PolicyCore, RefusesBadOptionsAndEngines) {
  Options bad;
  bad.admission_share = 2.0;
  EXPECT_THROW(PolicyCore(kEngine, bad), InvalidOption);
  Options bad_cost;
  bad_cost.cost.base = -1.0;
  EXPECT_THROW(PolicyCore(kEngine, bad_cost), InvalidOption);
  EXPECT_THROW(PolicyCore(Engine{}, Options{}), InvalidOption);
}

TEST(PolicyCore, OldestSessionFirstWithoutRank) {
  PolicyCore core(kEngine, oldest_first());
  core.arrive(2.0, turn(0, 7, 10));
  core.arrive(1.0, turn(1, 5, 1000));
  core.arrive(3.0, turn(2, 6, 10));
  EXPECT_EQ(core.waiting_order(9), (Handles{1, 0, 2}));
}

// The queue without those that `crowd` brought.
Handles without_crowd(const PolicyCore& core) {
  Handles order = core.waiting_order(99);
  std::erase_if(order, [](RequestHandle handle) { return handle >= 90; });
  return order;
}

TEST(PolicyCore, RankLetsLittleOnesPassButOnlyWithinItsHorizon) {
  Options options;
  options.rank_horizon = 10.0;
  options.cost.per_prefill = 1e-3;
  Arrival little = turn(1, 1, 10);
  little.hints = {.output_tokens = 1.0, .call_seconds = 0.0, .tool = {}, .final_turn = true};

  PolicyCore soon(kEngine, options);
  crowd(soon, 0.0);
  soon.arrive(20.0, turn(0, 0, 3000));
  soon.arrive(20.1, little);
  EXPECT_EQ(without_crowd(soon), (Handles{1, 0}));

  PolicyCore late(kEngine, options);
  crowd(late, 0.0);
  late.arrive(20.0, turn(0, 0, 3000));
  late.arrive(31.0, little);  // arrives later than the horizon reaches
  EXPECT_EQ(without_crowd(late), (Handles{0, 1}));
}

TEST(PolicyCore, RankDelaysNobodyOnACalmEngine) {
  PolicyCore core(kEngine, Options{});
  core.arrive(0.0, turn(0, 0, 3000));
  core.arrive(0.1, turn(1, 1, 10));
  EXPECT_EQ(core.waiting_order(9), (Handles{0, 1}));
}

TEST(PolicyCore, AReturningTurnGoesBeforeOlderOnesWithoutKv) {
  PolicyCore core(kEngine, oldest_first());
  pause_session(core, 5.0, 0, 320);
  core.arrive(1.0, turn(10, 10, 100));
  core.arrive(6.0, turn(11, 0, 400));
  EXPECT_EQ(core.waiting_order(9), (Handles{11, 10}));
  EXPECT_EQ(core.counters().returns, 1);
  core.admitted(6.1, 11, 320);
  EXPECT_EQ(core.ledger().held_tokens(), 0);  // now the request's own
  EXPECT_EQ(core.ledger().running_context(), 320);
  core.check_invariants();
}

// n > 1, or an id used twice at a time: the one that ends leaves KV for the one that waits.
TEST(PolicyCore, KvThatIsLostIsLostForEveryWaitingTurnOfItsSession) {
  PolicyCore core(kEngine, oldest_first());
  core.arrive(0.0, turn(10, 1, 100));
  core.arrive(1.0, turn(20, 2, 100));
  core.arrive(1.0, turn(21, 2, 100));
  core.admitted(1.0, 21, 0);
  core.finished(1.5, end_of(21, 132, 144));
  for (Steps i = 0; i <= Options{}.score_update_interval; ++i) {
    (void)core.begin_step(step_at(1.5, kCapacity - 144, 0));  // until the places are new
  }
  EXPECT_EQ(core.waiting_order(9), (Handles{20, 10}));
  core.released(2);
  EXPECT_EQ(core.waiting_order(9), (Handles{10, 20}));
}

TEST(PolicyCore, ASessionThatLostItsKvKeepsItsAgeOnly) {
  PolicyCore core(kEngine, oldest_first());
  core.arrive(0.0, turn(12, 12, 100));  // a newcomer
  pause_session(core, 1.0, 1, 320);
  pause_session(core, 5.0, 0, 320);
  core.released(1);
  core.arrive(6.0, turn(10, 1, 400));
  core.arrive(6.0, turn(11, 0, 400));
  EXPECT_EQ(core.waiting_order(9), (Handles{11, 10, 12}));
  core.released(0);
  EXPECT_EQ(core.waiting_order(9), (Handles{10, 11, 12}));
  core.check_invariants();
}

TEST(PolicyCore, MemoryNobodyWantsIsKept) {
  PolicyCore core(kEngine, Options{});
  pause_session(core, 0.0, 0, 320);
  EXPECT_EQ(core.ledger().held_tokens(), 320);
  for (Seconds now = 0.1; now < 20.0; now += 0.1) {
    EXPECT_TRUE(core.begin_step(step_at(now, kCapacity - 320)).release.empty()) << now;
  }
}

TEST(PolicyCore, PreserveCanBeSwitchedOff) {
  Options options;
  options.preserve = false;
  PolicyCore core(kEngine, options);
  pause_session(core, 0.0, 0, 320);
  EXPECT_EQ(core.ledger().held_tokens(), 0);
  EXPECT_EQ(core.begin_step(step_at(0.1, kCapacity - 320)).release, std::vector<SessionHandle>{0});
  EXPECT_EQ(core.counters().discarded, 1);
}

TEST(PolicyCore, AFinalTurnEndsTheSessionAtOnce) {
  PolicyCore core(kEngine, Options{});
  Arrival last = turn(0, 0, 100);
  last.hints.final_turn = true;
  core.arrive(0.0, last);
  core.admitted(0.1, 0, 0);
  core.finished(1.0, end_of(0, 132, 144));
  const StepPlan plan = core.begin_step(step_at(1.1, kCapacity - 144));
  EXPECT_EQ(plan.release, std::vector<SessionHandle>{0});
  EXPECT_EQ(plan.forget, std::vector<SessionHandle>{0});
  EXPECT_EQ(core.ledger().sessions(), 0U);
}

TEST(PolicyCore, AbortsEndTheSessionWhereverTheyHappen) {
  PolicyCore core(kEngine, Options{});
  const auto abort = [&](RequestHandle request) {
    core.finished(2.0, {.request = request,
                        .output_tokens = 0,
                        .context_tokens = 0,
                        .held_tokens = 0,
                        .aborted = true});
  };
  core.arrive(0.0, turn(0, 0, 100));  // aborted while it waits
  core.arrive(0.0, turn(1, 1, 100));  // aborted while it runs
  core.admitted(0.1, 1, 0);
  pause_session(core, 0.2, 2, 320);
  core.arrive(0.3, turn(3, 2, 400));  // aborted while it waits with KV kept
  abort(0);
  abort(1);
  abort(3);
  const StepPlan plan = core.begin_step(step_at(2.1, kCapacity - 320));
  EXPECT_EQ(plan.forget, (std::vector<SessionHandle>{0, 1, 2}));
  EXPECT_EQ(plan.release, std::vector<SessionHandle>{2});
  EXPECT_TRUE(plan.admit.empty());
  EXPECT_EQ(core.ledger().sessions(), 0U);
  core.check_invariants();
}

TEST(PolicyCore, ASessionThatDoesNotReturnIsForgotten) {
  Options options;
  options.forget_seconds = 30.0;
  PolicyCore core(kEngine, options);
  pause_session(core, 0.0, 0, 320);
  bool released = false;
  bool forgotten = false;
  for (Seconds now = 0.5; now < 60.0 && !forgotten; now += 0.5) {
    const StepPlan plan = core.begin_step(step_at(now, kCapacity - (released ? 0 : 320)));
    released = released || !plan.release.empty();
    forgotten = !plan.forget.empty();
  }
  EXPECT_TRUE(released);
  EXPECT_TRUE(forgotten);
  EXPECT_EQ(core.ledger().sessions(), 0U);
  EXPECT_EQ(core.ledger().held_tokens(), 0);
}

TEST(PolicyCore, TwoRequestsOfOneSessionPauseItTogether) {
  PolicyCore core(kEngine, Options{});
  core.arrive(0.0, turn(0, 0, 100));
  core.arrive(0.0, turn(1, 0, 100));  // n = 2, or a second client with the same id
  core.admitted(0.1, 0, 0);
  core.admitted(0.1, 1, 0);
  core.finished(1.0, end_of(0, 132, 144));
  EXPECT_EQ(core.ledger().session(0).state, SessionState::kActive);
  core.finished(1.1, end_of(1, 132, 144));
  EXPECT_EQ(core.ledger().session(0).state, SessionState::kPaused);
  EXPECT_EQ(core.ledger().held_tokens(), 144);
  core.check_invariants();
}

TEST(PolicyCore, OverdueAfterTheBoundInStepsAndSeconds) {
  Options options = oldest_first();
  options.starvation_threshold = 10;
  options.starvation_seconds = 1.0;
  PolicyCore core(kEngine, options);
  pause_session(core, 0.0, 0, 320);
  core.arrive(0.0, turn(10, 10, 100));
  core.admitted(0.0, 10, 0);
  core.preempted(0.0, 10);  // it has begun, and lost its KV
  Seconds now = 0.0;
  const auto steps = [&](int count, Seconds each) {
    for (int i = 0; i < count; ++i) (void)core.begin_step(step_at(now += each, 0, 0));
  };
  steps(20, 0.01);  // enough steps, too few seconds
  EXPECT_EQ(core.counters().overdue, 0);
  steps(1, 1.0);
  EXPECT_EQ(core.counters().overdue, 1);
  core.arrive(now, turn(11, 0, 400));  // its KV is here
  EXPECT_EQ(core.waiting_order(9), (Handles{10, 11}));

  PolicyCore seconds_only(kEngine, options);
  seconds_only.arrive(0.0, turn(10, 10, 100));
  (void)seconds_only.begin_step(step_at(50.0, 0, 0));  // enough seconds, too few steps
  EXPECT_EQ(seconds_only.counters().overdue, 0);
}

// Letting it in at once would cost others what they keep, here or on the host.
TEST(PolicyCore, AnOverdueNewcomerDoesNotPushIn) {
  Options options = oldest_first();
  options.starvation_threshold = 1;
  options.starvation_seconds = 1.0;
  for (const Tokens host : {Tokens{0}, Tokens{4096}}) {
    PolicyCore core(engine_with(host), options);
    pause_session(core, 0.0, 0, 320);
    core.arrive(0.0, turn(10, 10, 100));
    (void)core.begin_step(step_at(1.0, kCapacity - 320, 0));
    (void)core.begin_step(step_at(2.0, kCapacity - 320, 0));
    EXPECT_EQ(core.counters().overdue, 1);
    core.arrive(2.0, turn(11, 0, 400));  // its KV is here
    EXPECT_EQ(core.waiting_order(9), (Handles{11, 10}));
  }
}

// A bound is for outliers. Where everybody waits for minutes, seconds alone would make everybody
// overdue, and the bound the order.
TEST(PolicyCore, OverdueIsWhoWaitsMuchLongerThanUsual) {
  Options options = oldest_first();
  options.starvation_threshold = 1;
  options.starvation_seconds = 60.0;
  for (const Seconds usual : {1.0, 100.0}) {
    PolicyCore core(kEngine, options);
    for (RequestHandle i = 0; i < 20; ++i) {
      core.arrive(0.0, turn(i, i, 100));
      core.admitted(0.0, i, 0);
      core.finished(0.0, end_of(i, 132, 0));
      core.arrive(0.0, turn(i, i, 200));  // returns without KV
      core.admitted(usual, i, 0);
      core.finished(usual, end_of(i, 232, 0));
    }
    core.arrive(100.0, turn(30, 30, 100));
    (void)core.begin_step(step_at(100.0, 0, 0));
    (void)core.begin_step(step_at(170.0, 0, 0));
    EXPECT_EQ(core.counters().overdue, usual < 60.0 ? 1 : 0);
    EXPECT_NEAR(core.waiting_bound(), std::max(60.0, 2.0 * usual), 0.25 * 2.0 * usual);
    (void)core.begin_step(step_at(400.0, 0, 0));  // more than twice the usual
    EXPECT_EQ(core.counters().overdue, 1);
  }
}

TEST(PolicyCore, APreemptedTurnComesBackFirst) {
  PolicyCore core(kEngine, oldest_first());
  core.arrive(5.0, turn(0, 0, 100));
  core.admitted(5.0, 0, 0);
  core.arrive(1.0, turn(1, 1, 100));
  core.preempted(6.0, 0);
  EXPECT_EQ(core.waiting_order(9), (Handles{0, 1}));
  EXPECT_EQ(core.counters().preemptions, 1);
  EXPECT_EQ(core.ledger().running(), 0U);
  core.check_invariants();
}

TEST(PolicyCore, ReleaseOrderCoversWhatIsAskedFor) {
  PolicyCore core(kEngine, Options{});
  for (SessionHandle session = 0; session < 6; ++session) {
    pause_session(core, 0.1 * session, session, 160);
  }
  core.arrive(1.0, turn(20, 3, 200));  // returned: waits with its KV
  EXPECT_TRUE(core.release_order(2.0, 0).empty());
  EXPECT_EQ(core.release_order(2.0, 1).size(), 1U);
  EXPECT_EQ(core.release_order(2.0, 161).size(), 2U);
  const std::vector<SessionHandle> all = core.release_order(2.0, 1'000'000);
  EXPECT_EQ(all.size(), 6U);
  EXPECT_EQ(all.back(), 3);
  EXPECT_EQ(core.ledger().held_tokens(), 6 * 160);  // only asked, nothing let go
}

TEST(PolicyCore, OrdersVictimsOnlyWhenMemoryIsShort) {
  PolicyCore core(kEngine, oldest_first());
  const std::vector<RequestHandle> running = {0, 1, 2};
  const std::vector<Tokens> context = {1000, 100, 400};
  for (const RequestHandle request : running) {
    core.arrive(0.0, turn(request, request, context[static_cast<std::size_t>(request)]));
    core.admitted(0.0, request, 0);
  }
  StepView view = step_at(0.1, 2000);
  view.running = running;
  view.context = context;
  EXPECT_TRUE(core.begin_step(view).run_order.empty());
  view.free_tokens = 0;
  std::vector<RequestHandle> order = core.begin_step(view).run_order;
  std::sort(order.begin(), order.end());
  EXPECT_EQ(order, running);
}

TEST(PolicyCore, RecordsDecisionsWhenAsked) {
  PolicyCore core(kEngine, Options{});
  pause_session(core, 0.0, 0, 320);
  EXPECT_TRUE(core.take_decisions().empty());
  core.record_decisions(true);
  pause_session(core, 1.0, 1, 320);
  core.arrive(2.0, turn(10, 1, 400));
  const std::vector<Decision> decisions = core.take_decisions();
  ASSERT_EQ(decisions.size(), 2U);
  EXPECT_EQ(decisions[0].session, 1);
  EXPECT_EQ(decisions[0].handling, Handling::kPreserve);
  EXPECT_EQ(decisions[0].reason, Reason::kPreserved);
  EXPECT_EQ(decisions[0].context_tokens, 320);
  EXPECT_GT(decisions[0].expected_call, 0.0);
  EXPECT_EQ(decisions[1].reason, Reason::kReturned);
  EXPECT_TRUE(core.take_decisions().empty());
  EXPECT_STRNE(to_string(decisions[0].reason), "?");
}

// Two sessions keep 1,024 tokens each; session 0 is back, a large newcomer waits behind it.
TEST(PolicyCore, RefusesUnknownHandles) {
  PolicyCore core(kEngine, Options{});
  EXPECT_THROW(core.admitted(0.0, 3, 0), UnknownHandle);
  EXPECT_THROW(core.preempted(0.0, 3), UnknownHandle);
  EXPECT_THROW(core.skipped(3), UnknownHandle);
  EXPECT_THROW(core.finished(0.0, end_of(3, 10, 0)), UnknownHandle);
  core.arrive(0.0, turn(3, 0, 10));
  EXPECT_THROW(core.preempted(0.0, 3), UnknownHandle);  // it waits
  EXPECT_NO_THROW(core.released(99));  // sessions may be gone by the time the caller tells
  EXPECT_NO_THROW(core.released_under_pressure(0.0, 99));
  core.check_invariants();
}

}  // namespace
}  // namespace lamps
