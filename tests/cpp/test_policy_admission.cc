// SPDX-License-Identifier: Apache-2.0
// Who the policy core lets in, and what gives way to them.
#include <gtest/gtest.h>

#include <vector>

#include "lamps/policy.h"
#include "policy_scene.h"

namespace lamps {
namespace {

using namespace testing;  // NOLINT: the vocabulary of the scene

TEST(PolicyAdmission, AdmitsEverybodyWhenThereIsRoom) {
  PolicyCore core(kEngine, Options{});
  for (int i = 0; i < 5; ++i) core.arrive(0.1 * i, turn(i, i, 100));
  EXPECT_EQ(core.begin_step(step_at(1.0, kCapacity)).admit.size(), 5U);
  core.check_invariants();
}

TEST(PolicyAdmission, StaysWaitingUntilAdmitted) {
  PolicyCore core(kEngine, Options{});
  core.arrive(0.0, turn(0, 0, 100));
  EXPECT_EQ(core.begin_step(step_at(1.0, kCapacity)).admit, Handles{0});
  core.skipped(0);
  EXPECT_EQ(core.begin_step(step_at(1.1, kCapacity)).admit, Handles{0});
  core.admitted(1.1, 0, 0);
  EXPECT_TRUE(core.begin_step(step_at(1.2, kCapacity - 100)).admit.empty());
  EXPECT_EQ(core.counters().admissions, 1);
  EXPECT_EQ(core.ledger().running(), 1U);
}

TEST(PolicyAdmission, RespectsSlotsAndTheTokensOfAStep) {
  PolicyCore core(kEngine, oldest_first());
  for (int i = 0; i < 5; ++i) core.arrive(0.1 * i, turn(i, i, 600));
  EXPECT_EQ(core.begin_step(step_at(1.0, kCapacity, 2)).admit, (Handles{0, 1}));
  EXPECT_TRUE(core.begin_step(step_at(1.0, kCapacity, 0)).admit.empty());
  StepView view = step_at(1.0, kCapacity);
  view.step_tokens = 700;  // the second is begun in this step, the third is not
  EXPECT_EQ(core.begin_step(view).admit, (Handles{0, 1}));
}

TEST(PolicyAdmission, AnEmptyEngineAdmitsTheHeadWhateverItNeeds) {
  PolicyCore core(kEngine, Options{});
  core.arrive(0.0, turn(0, 0, 4096));  // its peak does not fit
  EXPECT_EQ(core.begin_step(step_at(0.1, kCapacity)).admit, Handles{0});
}

TEST(PolicyAdmission, DoesNotPromiseTheSameRoomTwice) {
  PolicyCore core(kEngine, oldest_first());
  for (int i = 0; i < 4; ++i) core.arrive(0.1 * i, turn(i, i, 1000));
  StepView view = step_at(1.0, 2200);
  view.step_tokens = 10'000;
  EXPECT_EQ(core.begin_step(view).admit, (Handles{0, 1}));
}

TEST(PolicyAdmission, KeptPausesGiveWayToAnOverdueTurn) {
  Options options = oldest_first();
  options.starvation_threshold = 1;
  options.starvation_seconds = 1.0;
  options.redecide_seconds = 3600.0;  // nothing is let go for its own sake
  PolicyCore core(kEngine, options);
  for (SessionHandle session = 0; session < 4; ++session) {
    pause_session(core, 0.0, session, kCapacity / 4);
  }
  core.arrive(0.0, turn(10, 10, 1000));
  (void)core.begin_step(step_at(0.1, 0, 0));
  const StepPlan plan = core.begin_step(step_at(2.0, 0));
  EXPECT_EQ(plan.admit, Handles{10});
  EXPECT_GE(plan.release.size(), 1U);
  EXPECT_LE(plan.release.size(), 2U);  // 1032 tokens: not more than needed
}

TEST(PolicyAdmission, PausesNeverHoldBackAnEngineThatIsIdle) {
  PolicyCore core(kEngine, oldest_first());
  for (SessionHandle session = 0; session < 4; ++session) {
    pause_session(core, 0.0, session, kCapacity / 4);
  }
  core.arrive(0.0, turn(10, 10, 1000));
  const StepPlan plan = core.begin_step(step_at(0.1, 0));
  EXPECT_EQ(plan.admit, Handles{10});
  EXPECT_FALSE(plan.release.empty());
}

TEST(PolicyAdmission, ThrashShrinksTheBudget) {
  PolicyCore core(kEngine, oldest_first());
  const double before = core.budget().share();
  pause_session(core, 0.0, 0, 2048);
  core.released_under_pressure(1.0, 0);
  core.arrive(2.0, turn(5, 0, 2100));
  core.admitted(2.0, 5, 0);
  EXPECT_EQ(core.budget().thrashed_tokens(), 2048);
  EXPECT_LT(core.budget().share(), before);
}

TEST(PolicyAdmission, NeverLetsGoOfWhomItLetsIn) {
  PolicyCore core(kEngine, oldest_first());
  pause_session(core, 0.0, 0, 1024);
  pause_session(core, 0.1, 1, 1024);
  core.arrive(0.2, turn(5, 0, 1100));
  core.arrive(0.3, turn(6, 2, 3000));
  const StepPlan plan = core.begin_step(step_at(0.4, 2048));
  EXPECT_EQ(plan.admit, (Handles{5}));  // even all that session 1 keeps is not enough for the other
  EXPECT_TRUE(plan.release.empty());
  core.check_invariants();
}

// Room is planned up to the peak of everyone for those who have not begun. A session that has
// begun enters as soon as its prompt fits: it has waited for its tool, not for us.
TEST(PolicyAdmission, OnACrowdedEngineOnlyNewcomersWaitForTheirPeak) {
  PolicyCore core(kEngine, oldest_first());
  core.arrive(0.0, turn(0, 0, 480));  // runs; will grow to 512
  core.admitted(0.0, 0, 0);
  core.arrive(0.1, turn(1, 1, 480));  // its next turn comes later
  core.admitted(0.1, 1, 0);
  core.finished(0.2, end_of(1, 512, 0));
  crowd(core, 1.0);
  const std::vector<RequestHandle> running = {0};
  const std::vector<Tokens> context = {480};
  // The prompt of 560 tokens fits into 600; its peak of 592 beside the 32 still to come does not.
  StepView view = step_at(21.0, 600);
  view.running = running;
  view.context = context;

  core.arrive(20.5, turn(2, 1, 560));
  EXPECT_EQ(core.begin_step(view).admit, Handles{2});

  PolicyCore other(kEngine, oldest_first());
  other.arrive(0.0, turn(0, 0, 480));
  other.admitted(0.0, 0, 0);
  other.arrive(0.1, turn(2, 1, 560));  // the same turn as a session's first
  crowd(other, 1.0);
  EXPECT_EQ(other.begin_step(view).admit, Handles{});

  PolicyCore third(kEngine, oldest_first());  // and as its only one: chat is served as vLLM does
  third.arrive(0.0, turn(0, 0, 480));
  third.admitted(0.0, 0, 0);
  Arrival only = turn(2, 1, 560);
  only.hints.final_turn = true;
  third.arrive(0.1, only);
  crowd(third, 1.0);
  EXPECT_EQ(third.begin_step(view).admit, Handles{2});
}

// Session 0 is 4,000 tokens long, loses its KV in every call and computes it anew: `times` of them,
// 0.4 s each.
void thrash(PolicyCore& core, Seconds now, int times) {
  for (int i = 0; i < times; ++i) {
    core.arrive(now, turn(0, 0, 4000));
    core.admitted(now, 0, 0);
    core.finished(now, end_of(0, 4000, 0));
  }
}

TEST(PolicyAdmission, NobodyBeginsWhileWhatOthersLostIsComputedAgain) {
  PolicyCore core(kEngine, oldest_first());
  crowd(core, 0.0);
  for (RequestHandle i = 90; i < 94; ++i) core.finished(20.0, end_of(i, 0, 0));
  core.arrive(20.0, turn(1, 1, 16));  // runs all the time
  core.admitted(20.0, 1, 0);
  const std::vector<RequestHandle> running = {1};
  const std::vector<Tokens> context = {16};
  const auto busy = [&](Seconds now) {
    StepView view = step_at(now, kCapacity - 16);
    view.running = running;
    view.context = context;
    return view;
  };
  core.arrive(20.0, turn(3, 3, 1000));
  core.arrive(20.0, turn(4, 4, 3000));  // keeps the engine crowded
  EXPECT_EQ(core.begin_step(busy(20.0)).admit, Handles{3});
  thrash(core, 20.1, 12);
  EXPECT_EQ(core.begin_step(busy(20.1)).admit, Handles{});
  EXPECT_EQ(core.begin_step(step_at(20.1, kCapacity)).admit, Handles{3});  // nothing runs

  core.arrive(20.2, turn(5, 0, 480));  // has begun: is not held back, nor behind those who are
  EXPECT_EQ(core.begin_step(busy(20.2)).admit, Handles{5});
  core.finished(20.3, end_of(5, 512, 0));

  Arrival child = turn(6, 6, 480);  // what it does is its parent's work
  child.parent = 0;
  core.arrive(20.3, child);
  EXPECT_EQ(core.begin_step(busy(20.3)).admit, Handles{6});
  core.finished(20.4, end_of(6, 512, 0));

  EXPECT_EQ(core.begin_step(busy(40.0)).admit, Handles{3});  // it is over
}

// Otherwise the older session, which goes first when it returns, would take the room back at once:
// both would recompute in turns.
TEST(PolicyAdmission, OnACrowdedEngineOnlyYoungerPausesGiveWay) {
  Options options = oldest_first();
  options.redecide_seconds = 3600.0;  // nothing is let go for its own sake
  const std::vector<RequestHandle> running = {20};
  const std::vector<Tokens> context = {1024};
  StepView view = step_at(21.0, 0);
  view.running = running;
  view.context = context;
  for (const bool older : {true, false}) {
    PolicyCore core(kEngine, options);
    core.arrive(0.0, turn(20, 20, 1000));  // runs all the time
    core.admitted(0.0, 20, 0);
    const SessionHandle keeper = 3;
    if (older) pause_session(core, 0.1, keeper, 1024);
    core.arrive(0.2, turn(5, 5, 480));  // has begun, and lost its KV
    core.admitted(0.2, 5, 0);
    core.finished(0.3, end_of(5, 512, 0));
    if (!older) pause_session(core, 0.4, keeper, 1024);
    crowd(core, 1.0);
    core.arrive(20.5, turn(6, 5, 560));
    const StepPlan plan = core.begin_step(view);
    EXPECT_EQ(plan.admit, older ? Handles{} : Handles{6});
    EXPECT_EQ(plan.release, older ? Handles{} : Handles{keeper});
  }
}

}  // namespace
}  // namespace lamps
