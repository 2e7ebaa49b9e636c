// SPDX-License-Identifier: Apache-2.0
// What each policy decides, by hand; `lamps` has test_policy.cc and test_policy_admission.cc, and
// test_policy_runs.cc has whole runs of all of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "lamps/policies/continuum.h"
#include "lamps/policy.h"
#include "policy_scene.h"

namespace lamps {
namespace {

using testing::end_of;
using testing::Handles;
using testing::kCapacity;
using testing::kEngine;
using testing::step_at;

using Sessions = std::vector<SessionHandle>;

// A prefill token costs 1 ms, a step 20 ms (what the core starts from), and nothing else costs.
Options with(PolicyName policy) {
  Options options;
  options.policy = policy;
  options.cost.base = 0.0;
  options.cost.per_prefill = 1e-3;
  return options;
}

Arrival turn(RequestHandle request, SessionHandle session, Tokens prompt, double output,
             Seconds call) {
  Arrival arrival = testing::turn(request, session, prompt);
  arrival.hints.output_tokens = output;
  arrival.hints.call_seconds = call;
  return arrival;
}

Arrival last_turn(RequestHandle request, SessionHandle session, Tokens prompt, double output) {
  Arrival arrival = turn(request, session, prompt, output, -1.0);
  arrival.hints.final_turn = true;
  return arrival;
}

// Begins a pause of `session` at `now`: its turn had `context` tokens, its call takes `call`.
void pause(PolicyCore& core, Seconds now, SessionHandle session, Tokens context, Seconds call) {
  core.arrive(now, turn(session, session, context - 32, 32.0, call));
  core.admitted(now, session, 0);
  core.finished(now, end_of(session, context, context));
}

// What is let go in the next step.
Sessions let_go(PolicyCore& core, Seconds now) {
  return core.begin_step(step_at(now, kCapacity)).release;
}

TEST(Fcfs, OffersEverybodyInOrderOfArrivalWhateverTheyNeed) {
  PolicyCore core(kEngine, with(PolicyName::kFcfs));
  EXPECT_FALSE(core.keeps());
  for (int i = 0; i < 5; ++i) core.arrive(0.1 * i, testing::turn(i, 4 - i, 4000));
  EXPECT_EQ(core.begin_step(step_at(1.0, 0)).admit, (Handles{0, 1, 2, 3, 4}));
  EXPECT_EQ(core.begin_step(step_at(1.1, 0, 2)).admit, (Handles{0, 1}));
  EXPECT_TRUE(core.begin_step(step_at(1.2, 0, 0)).admit.empty());
}

TEST(Fcfs, TheLastPreemptedGoesFirst) {
  PolicyCore core(kEngine, with(PolicyName::kFcfs));
  for (int i = 0; i < 3; ++i) core.arrive(0.1 * i, testing::turn(i, i, 100));
  core.admitted(1.0, 0, 0);
  core.admitted(1.0, 1, 0);
  core.preempted(2.0, 1);
  EXPECT_EQ(core.waiting_order(9), (Handles{1, 2}));
  core.preempted(2.0, 0);
  EXPECT_EQ(core.waiting_order(9), (Handles{0, 1, 2}));
}

TEST(Fcfs, SkippedRequestsHoldNobodyBack) {
  PolicyCore core(kEngine, with(PolicyName::kFcfs));
  for (int i = 0; i < 3; ++i) core.arrive(0.1 * i, testing::turn(i, i, 100));
  EXPECT_EQ(core.begin_step(step_at(1.0, kCapacity, 1)).admit, Handles{0});
  core.skipped(0);
  EXPECT_EQ(core.begin_step(step_at(1.1, kCapacity, 1)).admit, (Handles{0, 1}));
}

TEST(Fcfs, LetsGoOfWhatTheCallerKeptAllTheSame) {
  PolicyCore core(kEngine, with(PolicyName::kFcfs));
  pause(core, 0.0, 0, 320, -1.0);
  EXPECT_EQ(let_go(core, 0.1), Sessions{0});
}

TEST(SessionFcfs, OlderSessionsFirstAndTheYoungestIsTheVictim) {
  PolicyCore core(kEngine, with(PolicyName::kSessionFcfs));
  EXPECT_FALSE(core.keeps());
  core.arrive(0.0, testing::turn(0, 7, 100));  // session 7 is the oldest
  core.arrive(0.1, testing::turn(1, 5, 100));
  core.arrive(0.2, testing::turn(2, 6, 100));
  core.admitted(0.3, 0, 0);
  core.finished(0.4, end_of(0, 132, 0));
  core.arrive(0.5, testing::turn(3, 7, 200));
  EXPECT_EQ(core.waiting_order(9), (Handles{3, 1, 2}));

  for (const RequestHandle request : {2, 1, 3}) core.admitted(1.0, request, 0);
  const Handles running = {2, 1, 3};
  const std::vector<Tokens> context = {100, 100, 200};
  StepView view = step_at(1.1, 0);
  view.running = running;
  view.context = context;
  EXPECT_EQ(core.begin_step(view).run_order, (Handles{3, 1, 2}));
}

TEST(Sjf, ShortestOutputFirst) {
  PolicyCore core(kEngine, with(PolicyName::kSjf));
  core.arrive(0.0, turn(0, 0, 10, 50.0, 0.0));
  core.arrive(0.1, turn(1, 1, 4000, 10.0, 9.0));
  core.arrive(0.2, turn(2, 2, 10, 30.0, 0.0));
  EXPECT_EQ(core.waiting_order(9), (Handles{1, 2, 0}));
}

TEST(SjfTotal, CallsCount) {
  PolicyCore core(kEngine, with(PolicyName::kSjfTotal));
  core.arrive(0.0, last_turn(0, 0, 10, 50.0));    // 50 steps: 1.0 s
  core.arrive(0.1, turn(1, 1, 4000, 10.0, 5.0));  // 0.2 s, and 5 s with probability 1/2
  core.arrive(0.2, last_turn(2, 2, 10, 30.0));    // 0.6 s
  EXPECT_EQ(core.waiting_order(9), (Handles{2, 0, 1}));
}

TEST(Plas, LeastServedSessionFirst) {
  PolicyCore core(kEngine, with(PolicyName::kPlas));
  const auto serve = [&](RequestHandle request, SessionHandle session, Seconds seconds) {
    core.arrive(0.0, testing::turn(request, session, 100));
    core.admitted(10.0, request, 0);
    core.finished(10.0 + seconds, end_of(request, 132, 0));
  };
  serve(0, 0, 2.0);
  serve(1, 1, 1.0);
  serve(2, 1, 0.5);
  core.arrive(20.0, testing::turn(3, 0, 200));  // 2.0 s so far
  core.arrive(20.1, testing::turn(4, 1, 200));  // 1.5 s
  core.arrive(20.2, testing::turn(5, 2, 200));  // nothing yet
  EXPECT_EQ(core.waiting_order(9), (Handles{5, 4, 3}));

  core.admitted(21.0, 5, 0);
  core.preempted(24.0, 5);  // 3 s of service, even if it was lost
  EXPECT_EQ(core.waiting_order(9), (Handles{4, 3, 5}));
}

// Recomputing C tokens takes C ms, and wastes C/1000 * C/2 token-seconds when nobody else runs.
TEST(Infercept, LetsGoByWasteButNotOfTheLargest) {
  PolicyCore core(kEngine, with(PolicyName::kInfercept));
  EXPECT_TRUE(core.keeps());
  pause(core, 0.0, 0, 320, 0.1);     // keep 32 < 51.2: kept
  pause(core, 0.0, 1, 320, 1000.0);  // 51.2: let go
  pause(core, 0.0, 2, 640, 1000.0);  // 204.8: had better be let go, but is the largest
  EXPECT_EQ(core.release_order(0.0, kCapacity), Sessions{2});
  EXPECT_EQ(let_go(core, 0.01), Sessions{1});
  EXPECT_TRUE(let_go(core, 0.02).empty());
}

TEST(Infercept, WeighsAgainInEveryStep) {
  Options options = with(PolicyName::kInfercept);
  options.forget_seconds = 1e7;
  PolicyCore core(kEngine, options);
  pause(core, 0.0, 0, 320, 0.1);
  pause(core, 0.0, 1, 2048, 1000.0);  // 2097.2
  EXPECT_TRUE(let_go(core, 0.05).empty());
  // The call of session 0 overruns; a call that has lasted 10 s is expected to last 10 s more.
  EXPECT_EQ(let_go(core, 10.0), Sessions{0});
}

TEST(Infercept, OldestSessionFirstButKvThatIsHereBefore) {
  PolicyCore core(kEngine, with(PolicyName::kInfercept));
  core.arrive(0.0, testing::turn(10, 10, 100));
  pause(core, 1.0, 0, 320, 1.0);
  core.arrive(2.0, testing::turn(11, 11, 100));
  core.arrive(2.5, testing::turn(12, 0, 400));
  EXPECT_EQ(core.waiting_order(9), (Handles{12, 10, 11}));
  core.released(0);
  EXPECT_EQ(core.waiting_order(9), (Handles{10, 12, 11}));
}

TEST(LampsPaper, RanksByMemoryOverTime) {
  PolicyCore core(kEngine, with(PolicyName::kLampsPaper));
  core.arrive(0.0, last_turn(0, 0, 100, 10.0));  // 0.1 * 50  + 0.02 * 10 * 105   = 26
  core.arrive(0.1, last_turn(1, 1, 50, 40.0));   // 0.05 * 25 + 0.02 * 40 * 70    = 57.25
  core.arrive(0.2, last_turn(2, 2, 200, 1.0));   // 0.2 * 100 + 0.02 * 1  * 200.5 = 24.01
  EXPECT_EQ(core.waiting_order(9), (Handles{2, 0, 1}));
}

TEST(LampsPaper, TheHandlingIsChosenAtArrivalAndNotRevised) {
  Options options = with(PolicyName::kLampsPaper);
  options.forget_seconds = 40.0;
  PolicyCore core(kEngine, options);
  pause(core, 0.0, 0, 320, 0.01);    // keep 3.2, let go 25.6 (half of them return)
  pause(core, 0.0, 1, 320, 1000.0);  // keep 320,000
  EXPECT_EQ(let_go(core, 0.1), Sessions{1});
  EXPECT_TRUE(let_go(core, 39.0).empty());  // though the call has long overrun
  EXPECT_EQ(let_go(core, 41.0), Sessions{0});
}

TEST(LampsPaper, StepsAloneMakeOverdue) {
  Options options = with(PolicyName::kLampsPaper);
  options.starvation_threshold = 10;
  PolicyCore core(kEngine, options);
  core.arrive(0.0, last_turn(0, 0, 3000, 100.0));
  for (int i = 0; i < 9; ++i) (void)core.begin_step(step_at(1e-3 * i, 0, 0));
  core.arrive(0.1, last_turn(1, 1, 10, 1.0));
  EXPECT_EQ(core.waiting_order(9), (Handles{1, 0}));
  (void)core.begin_step(step_at(0.1, 0, 0));
  EXPECT_EQ(core.waiting_order(9), (Handles{0, 1}));
  core.admitted(0.2, 0, 0);
  core.preempted(0.3, 0);  // stays at the head until its next call
  EXPECT_EQ(core.waiting_order(9), (Handles{0, 1}));
}

// c = 2048, F = 0.1 ms * 2048 + 10 ms = 0.2148 s: M = 439.9 for up to 2,048 tokens, else 1,319.7.
TEST(MarsCode, ScoresAsTheCodeDoes) {
  PolicyCore core(kEngine, with(PolicyName::kMarsCode));
  core.arrive(0.0, last_turn(0, 0, 3000, 28.0));  // 1319.7 + 439.9
  core.arrive(0.1, turn(1, 1, 100, 28.0, 0.1));   // keep 12.8 < let go 16.4: 439.9 * 2 + 12.8
  core.arrive(0.2, turn(2, 2, 100, 28.0, 10.0));  // let go: 439.9 * 2
  core.arrive(0.3, last_turn(3, 3, 100, 28.0));   // 439.9 * 2
  EXPECT_EQ(core.waiting_order(9), (Handles{2, 3, 1, 0}));
}

TEST(MarsCode, OnlyWhoWasServedAges) {
  Options options = with(PolicyName::kMarsCode);
  options.starvation_threshold = 5;
  PolicyCore core(kEngine, options);
  pause(core, 0.0, 0, 3000, 1000.0);
  core.released(0);
  core.arrive(0.1, last_turn(10, 0, 3100, 28.0));
  core.arrive(0.2, last_turn(11, 11, 3100, 28.0));
  core.arrive(0.3, last_turn(12, 12, 100, 28.0));
  EXPECT_EQ(core.waiting_order(9), (Handles{12, 10, 11}));
  for (int i = 0; i < 9; ++i) (void)core.begin_step(step_at(0.3 + 1e-3 * i, 0, 0));
  EXPECT_EQ(core.counters().overdue, 1);
  EXPECT_EQ(core.waiting_order(9), (Handles{10, 12, 11}));
}

TEST(MarsCode, PausesAreLetGoByTheWasteFoundAtArrival) {
  PolicyCore core(kEngine, with(PolicyName::kMarsCode));
  pause(core, 0.0, 0, 320, 1e-3);    // keep 0.32
  pause(core, 0.0, 1, 320, 1000.0);  // let go: 0.001 * 320^2 = 102.4
  pause(core, 0.0, 2, 640, 1000.0);  // let go: 409.6, the largest
  EXPECT_EQ(let_go(core, 50.0), Sessions{1});
  EXPECT_EQ(core.release_order(50.0, kCapacity), Sessions{2});
}

TEST(Continuum, KeepsForTwoSecondsAtFirst) {
  PolicyCore core(kEngine, with(PolicyName::kContinuum));
  pause(core, 0.0, 0, 320, 1000.0);
  EXPECT_TRUE(let_go(core, 1.99).empty());
  EXPECT_EQ(let_go(core, 2.0), Sessions{0});
}

TEST(Continuum, ThenForTheTimeThatPays) {
  PolicyCore core(kEngine, with(PolicyName::kContinuum));
  Seconds now = 0.0;
  for (int i = 0; i < 102; ++i) {  // calls of 0.1 s
    pause(core, now, 0, 3200, -1.0);
    now += 0.1;
  }
  pause(core, now, 0, 3200, -1.0);  // computing it again takes 3.2 s
  EXPECT_TRUE(let_go(core, now + 0.09).empty());
  EXPECT_EQ(let_go(core, now + 0.2), Sessions{0});
  pause(core, now + 1.0, 1, 48, -1.0);  // 0.048 s: not worth waiting 0.1 s for
  EXPECT_EQ(let_go(core, now + 1.0), Sessions{1});
}

TEST(Continuum, YoungestSessionsGiveWayFirst) {
  PolicyCore core(kEngine, with(PolicyName::kContinuum));
  for (SessionHandle session = 0; session < 3; ++session) pause(core, 0.0, session, 320, -1.0);
  EXPECT_EQ(core.release_order(1.0, kCapacity), (Sessions{2, 1, 0}));
}

TEST(Continuum, PreemptedThenKeptThenOldest) {
  PolicyCore core(kEngine, with(PolicyName::kContinuum));
  core.arrive(0.0, testing::turn(10, 10, 100));
  pause(core, 1.0, 0, 320, -1.0);
  core.arrive(1.1, testing::turn(11, 11, 100));
  core.admitted(1.2, 11, 0);
  core.arrive(1.3, testing::turn(12, 0, 400));
  core.preempted(1.4, 11);
  EXPECT_EQ(core.waiting_order(9), (Handles{11, 12, 10}));
}

TEST(Continuum, MeanOfTheLast) {
  RecentMean recent(3);
  EXPECT_EQ(recent.mean(), 0.0);
  for (const double value : {100.0, 1.0, 2.0, 3.0}) recent.observe(value);
  EXPECT_DOUBLE_EQ(recent.mean(), 2.0);
}

TEST(Continuum, MemoryfulnessTellsWhetherTurnsServedBringTheEndNearer) {
  Memoryfulness same;
  EXPECT_EQ(same.value(), 1.0);
  same.observe(3);
  same.observe(3);
  EXPECT_DOUBLE_EQ(same.value(), 1.0);
  Memoryfulness mixed;  // (served, left): (1, 0), (1, 2), (2, 1), (3, 0)
  mixed.observe(1);
  mixed.observe(3);
  EXPECT_DOUBLE_EQ(mixed.value(), 5.0 / 11.0);
}

// Three sessions of 1,500 tokens, each counting 100 more: two fit into 4,096.
class Thunder : public ::testing::Test {
 protected:
  Thunder() : core(kEngine, with(PolicyName::kThunder)) {
    for (int i = 0; i < 3; ++i) core.arrive(0.0, testing::turn(i, i, 1500));
  }
  Handles admitted_at(Seconds now) { return core.begin_step(step_at(now, kCapacity)).admit; }

  PolicyCore core;
};

TEST_F(Thunder, NewSessionsEnterWhileTheyFit) {
  EXPECT_FALSE(core.keeps());
  EXPECT_EQ(admitted_at(0.0), (Handles{0, 1}));
  core.arrive(0.1, testing::turn(3, 3, 10));  // fits, but somebody waits before it
  EXPECT_EQ(admitted_at(4.9), (Handles{0, 1}));
  EXPECT_EQ(admitted_at(5.0), (Handles{0, 1, 3}));  // the smallest new one is opened first
}

TEST_F(Thunder, ALongCallGivesItsPlaceAway) {
  EXPECT_EQ(admitted_at(0.0), (Handles{0, 1}));
  core.admitted(0.0, 0, 0);
  core.admitted(0.0, 1, 0);
  core.finished(1.0, end_of(0, 1532, 0));
  EXPECT_TRUE(admitted_at(4.9).empty());
  // 1532 * 2^-4 = 96 leave room for session 2; without that discount session 0 is too much.
  EXPECT_EQ(admitted_at(5.0), Handles{2});
  core.admitted(5.0, 2, 0);
  core.arrive(6.0, testing::turn(4, 0, 1600));
  EXPECT_TRUE(admitted_at(11.0).empty());
  core.finished(12.0, {.request = 1,
                       .output_tokens = 1,
                       .context_tokens = 1501,
                       .held_tokens = 0,
                       .aborted = true});
  EXPECT_EQ(admitted_at(16.0), Handles{4});
}

TEST_F(Thunder, ATurnIsLetInAtTheLatestAfterHalfAnHour) {
  EXPECT_EQ(admitted_at(0.0), (Handles{0, 1}));
  EXPECT_EQ(admitted_at(1799.0), (Handles{0, 1}));
  EXPECT_EQ(admitted_at(1804.0), (Handles{0, 1, 2}));
}

TEST_F(Thunder, WhenAllAreBusyTheSmallestIsClosedAtTheEndOfItsTurn) {
  EXPECT_EQ(admitted_at(0.0), (Handles{0, 1}));
  core.admitted(0.0, 0, 0);
  core.admitted(0.0, 1, 0);
  StepView view = step_at(5.0, 0);
  const Handles running = {0, 1};
  const std::vector<Tokens> context = {2100, 2000};  // they have grown: 4,300 with the reserve
  view.running = running;
  view.context = context;
  (void)core.begin_step(view);
  core.finished(6.0, end_of(1, 2032, 0));
  core.arrive(6.1, testing::turn(5, 1, 2100));
  EXPECT_TRUE(admitted_at(6.2).empty());  // closed
  core.finished(6.3, end_of(0, 2132, 0));
  core.arrive(6.4, testing::turn(6, 0, 2200));
  EXPECT_EQ(admitted_at(6.5), Handles{6});  // open all the time
}

}  // namespace
}  // namespace lamps
