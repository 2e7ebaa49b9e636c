// SPDX-License-Identifier: Apache-2.0
// KV that is kept for a pause and copied to the host meanwhile.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "lamps/policy.h"
#include "policy_scene.h"

namespace lamps {
namespace {

using testing::crowd;
using testing::Handles;
using testing::kCapacity;
using testing::slow_link;
using testing::step_at;
using testing::swap_pays;

using Sessions = std::vector<SessionHandle>;

constexpr Tokens kContext = 320;

// An engine that nobody waits for, and session 0 in a pause since t = 0.
class CopyAhead : public ::testing::Test {
 protected:
  explicit CopyAhead(Tokens host = 4096, const Options& options = swap_pays())
      : core(testing::engine_with(host), options) {
    testing::pause_session(core, 0.0, 0, kContext);
  }
  StepPlan step(Seconds now, Tokens free_tokens = kCapacity - kContext) {
    StepPlan plan = core.begin_step(step_at(now, free_tokens));
    core.check_invariants();
    return plan;
  }
  void copy(Seconds now) {
    EXPECT_EQ(step(now).copy_ahead, Sessions{0});
    core.swapped_out(now, 0);
    EXPECT_EQ(core.ledger().session(0).copy, Copy::kBoth);
  }
  [[nodiscard]] Sessions let_go_under_pressure(Seconds now) {
    const Sessions order = core.release_order(now, kCapacity);
    for (const SessionHandle session : order) core.released_under_pressure(now, session);
    core.check_invariants();
    return order;
  }

  PolicyCore core;
};

TEST_F(CopyAhead, KeptKvIsCopiedAndStays) {
  const StepPlan plan = step(0.01);
  EXPECT_EQ(plan.copy_ahead, Sessions{0});
  EXPECT_TRUE(plan.swap_out.empty());
  EXPECT_EQ(core.ledger().held_tokens(), kContext);
  EXPECT_EQ(core.ledger().copying_tokens(), kContext);
  EXPECT_TRUE(step(0.02).copy_ahead.empty());  // told once
  core.swapped_out(0.3, 0);
  EXPECT_TRUE(step(0.4).copy_ahead.empty());
  EXPECT_EQ(core.ledger().held_tokens(), kContext);
  EXPECT_EQ(core.ledger().host_tokens(), kContext);
  EXPECT_EQ(core.ledger().copying_tokens(), 0);
  EXPECT_EQ(core.counters().copied_ahead, 1);
  EXPECT_EQ(core.counters().swapped, 0);
}

TEST_F(CopyAhead, OneAtATimeAndTheLongestPauseFirst) {
  testing::pause_session(core, 1.0, 1, kContext);
  testing::pause_session(core, 1.0, 2, kContext);
  EXPECT_EQ(step(1.1).copy_ahead, Sessions{0});
  EXPECT_TRUE(step(1.2).copy_ahead.empty());
  core.swapped_out(1.3, 0);
  EXPECT_EQ(step(1.4).copy_ahead, Sessions{1});
  core.arrive(1.5, testing::turn(12, 2, 400));  // it returns before its turn has come
  core.swapped_out(1.6, 1);
  EXPECT_TRUE(step(1.7).copy_ahead.empty());
}

TEST_F(CopyAhead, WhatIsCopiedIsLetGoWithoutLoss) {
  copy(0.1);
  EXPECT_EQ(let_go_under_pressure(0.2), Sessions{0});
  EXPECT_EQ(core.counters().released, 0);
  EXPECT_EQ(core.ledger().session(0).copy, Copy::kHost);
  core.arrive(0.3, testing::turn(10, 0, 400));
  EXPECT_EQ(core.ledger().request(10).shared_tokens, 0);
  EXPECT_EQ(core.ledger().request(10).host_tokens, kContext);
  EXPECT_TRUE(step(0.4, kCapacity).drop_host.empty());
}

TEST_F(CopyAhead, WhatIsLetGoDuringTheCopyIsLost) {
  EXPECT_EQ(step(0.1).copy_ahead, Sessions{0});
  EXPECT_EQ(let_go_under_pressure(0.2), Sessions{0});
  EXPECT_EQ(core.counters().released, 1);
  core.swapped_out(0.3, 0);  // of blocks that are somebody else's by now
  EXPECT_EQ(core.ledger().host_tokens(), 0);
  EXPECT_EQ(step(0.4, kCapacity).drop_host, Sessions{0});
}

TEST_F(CopyAhead, AReturnTakesTheBlocksOver) {
  EXPECT_EQ(step(0.1).copy_ahead, Sessions{0});
  core.arrive(0.2, testing::turn(10, 0, 400));
  EXPECT_EQ(core.ledger().request(10).shared_tokens, kContext);
  core.admitted(0.3, 10, kContext);
  core.swapped_out(0.35, 0);  // too late to matter
  EXPECT_EQ(step(0.4).drop_host, Sessions{0});
  EXPECT_EQ(core.ledger().host_tokens(), 0);
  EXPECT_EQ(core.ledger().copying_tokens(), 0);
}

TEST_F(CopyAhead, ATurnThatWaitsFindsTheCopyWhenItsKvHasGone) {
  copy(0.1);
  core.arrive(0.2, testing::turn(10, 0, 400));
  EXPECT_EQ(core.ledger().request(10).shared_tokens, kContext);
  EXPECT_EQ(let_go_under_pressure(0.3), Sessions{0});
  EXPECT_EQ(core.ledger().request(10).shared_tokens, 0);
  EXPECT_EQ(core.ledger().request(10).host_tokens, kContext);
}

TEST_F(CopyAhead, RoomForAWaitingTurnIsThereAtOnce) {
  copy(0.1);
  core.arrive(0.2, testing::turn(10, 10, kCapacity - 64));
  const StepPlan plan = step(0.3);
  EXPECT_EQ(plan.release, Sessions{0});
  EXPECT_EQ(plan.admit, Handles{10});
  EXPECT_TRUE(plan.swap_out.empty());
  EXPECT_EQ(core.ledger().session(0).copy, Copy::kHost);
}

TEST_F(CopyAhead, ACopyThatIsUnderWayBecomesASwap) {
  Arrival arrival = testing::turn(1, 1, kContext - 32);
  arrival.hints.call_seconds = 600.0;
  core.arrive(0.0, arrival);
  core.admitted(0.0, 1, 0);
  core.finished(0.0, testing::end_of(1, kContext, kContext));
  copy(0.05);
  EXPECT_EQ(step(0.1).copy_ahead, Sessions{1});
  std::vector<SessionHandle> swapped;
  for (RequestHandle i = 90; i < 94; ++i) core.arrive(0.2, testing::turn(i, i, 3000));
  for (Seconds now = 1.0; now < 20.0; now += 1.0) {
    const StepPlan plan = core.begin_step(step_at(now, 0, 0));
    EXPECT_TRUE(std::find(plan.release.begin(), plan.release.end(), 1) == plan.release.end());
    swapped.insert(swapped.end(), plan.swap_out.begin(), plan.swap_out.end());
    core.check_invariants();
  }
  EXPECT_EQ(swapped, Sessions{1});
  EXPECT_EQ(core.ledger().leaving_tokens(), kContext);
  core.swapped_out(20.0, 1);
  EXPECT_EQ(core.ledger().session(1).copy, Copy::kHost);
  core.check_invariants();
}

TEST_F(CopyAhead, ASessionThatDoesNotReturnLeavesBothPlaces) {
  copy(0.1);
  const StepPlan plan = step(10'000.0);
  EXPECT_EQ(plan.release, Sessions{0});
  EXPECT_EQ(plan.drop_host, Sessions{0});
  EXPECT_EQ(plan.forget, Sessions{0});
  EXPECT_EQ(core.ledger().host_tokens(), 0);
}

TEST_F(CopyAhead, WhatTheCallerLosesIsLostEverywhere) {
  copy(0.1);
  core.released(0);
  EXPECT_EQ(core.ledger().host_tokens(), 0);
  EXPECT_EQ(core.ledger().held_tokens(), 0);
  core.check_invariants();
}

TEST_F(CopyAhead, ACopyThatFailsLeavesWhatIsKept) {
  EXPECT_EQ(step(0.1).copy_ahead, Sessions{0});
  core.host_lost(0);
  EXPECT_EQ(core.ledger().copying_tokens(), 0);
  EXPECT_EQ(core.ledger().host_tokens(), 0);
  EXPECT_EQ(core.ledger().held_tokens(), kContext);
  const StepPlan plan = step(0.2);
  EXPECT_TRUE(plan.copy_ahead.empty());  // once is enough
  EXPECT_TRUE(plan.drop_host.empty());   // the caller knows
  EXPECT_TRUE(plan.release.empty());
  core.swapped_out(0.3, 0);
  EXPECT_EQ(core.ledger().session(0).copy, Copy::kNone);
}

TEST_F(CopyAhead, AHostCopyThatIsLostLeavesWhatIsKept) {
  copy(0.1);
  core.host_lost(0);
  EXPECT_EQ(core.ledger().host_tokens(), 0);
  EXPECT_EQ(core.ledger().held_tokens(), kContext);
  core.host_lost(0);  // nothing more to lose
  EXPECT_EQ(core.ledger().held_tokens(), kContext);
  EXPECT_EQ(let_go_under_pressure(0.2), Sessions{0});
  EXPECT_EQ(core.counters().released, 1);
}

TEST_F(CopyAhead, KvThatWasOnlyOnTheHostIsLostWithIt) {
  copy(0.1);
  EXPECT_EQ(let_go_under_pressure(0.2), Sessions{0});
  core.arrive(0.3, testing::turn(10, 0, 400));
  EXPECT_EQ(core.ledger().request(10).host_tokens, kContext);
  core.host_lost(0);
  EXPECT_EQ(core.ledger().request(10).host_tokens, 0);
  EXPECT_EQ(core.ledger().host_tokens(), 0);
  EXPECT_TRUE(step(0.4, kCapacity).drop_host.empty());
  core.host_lost(99);  // of a session that is over
}

TEST_F(CopyAhead, NothingIsCopiedWhileKvGoesOut) {
  crowd(core, 1.0);
  Arrival arrival = testing::turn(1, 1, kContext - 32);
  arrival.hints.call_seconds = 600.0;
  core.arrive(21.0, arrival);
  core.admitted(21.0, 1, 0);
  core.finished(21.0, testing::end_of(1, kContext, kContext));
  testing::pause_session(core, 21.0, 2, kContext);
  ASSERT_GT(core.ledger().leaving_tokens(), 0);
  EXPECT_TRUE(core.begin_step(step_at(21.05, 0, 0)).copy_ahead.empty());
}

class CopyAheadIntoLittle : public CopyAhead {
 protected:
  CopyAheadIntoLittle() : CopyAhead(kContext - 1) {}
};

TEST_F(CopyAheadIntoLittle, NothingIsCopiedWhereThereIsNoRoom) {
  EXPECT_TRUE(step(0.1).copy_ahead.empty());
  EXPECT_EQ(core.ledger().held_tokens(), kContext);
}

class CopyAheadOfLittleUse : public CopyAhead {
 protected:
  CopyAheadOfLittleUse() : CopyAhead(4096, slow_link()) {}
};

TEST_F(CopyAheadOfLittleUse, NothingIsCopiedWhereALoadCostsMoreThanComputing) {
  EXPECT_TRUE(step(0.1).copy_ahead.empty());
}

// 60 s of a crowd's time cost more than a load.
TEST(CopyAheadDecision, ACopyThatIsDoneIsAReasonToLetGo) {
  Options options = swap_pays();
  options.redecide_seconds = 3600.0;
  PolicyCore later(testing::engine_with(4096), options);
  Arrival arrival = testing::turn(0, 0, kContext - 32);
  arrival.hints.call_seconds = 60.0;
  later.arrive(0.0, arrival);
  later.admitted(0.0, 0, 0);
  later.finished(0.0, testing::end_of(0, kContext, kContext));
  EXPECT_EQ(later.begin_step(step_at(0.1, kCapacity - kContext)).copy_ahead, Sessions{0});
  crowd(later, 1.0);
  EXPECT_EQ(later.ledger().held_tokens(), kContext);
  later.swapped_out(21.5, 0);
  const StepPlan plan = later.begin_step(step_at(22.0, 0, 0));
  EXPECT_EQ(plan.release, Sessions{0});
  EXPECT_TRUE(plan.drop_host.empty());
  EXPECT_EQ(later.ledger().session(0).copy, Copy::kHost);
  later.check_invariants();
}

TEST(CopyAheadOfOthers, OtherPoliciesDoNot) {
  Options options = swap_pays();
  options.policy = PolicyName::kInfercept;
  PolicyCore core(testing::engine_with(4096), options);
  testing::pause_session(core, 0.0, 0, kContext);
  EXPECT_TRUE(core.begin_step(step_at(0.1, kCapacity - kContext)).copy_ahead.empty());
}

}  // namespace
}  // namespace lamps
