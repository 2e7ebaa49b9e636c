// SPDX-License-Identifier: Apache-2.0
// What the policy core does with a host tier: copies out, returns during and after them, loads
// ahead of a return, and host memory that is full.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lamps/policy.h"
#include "policy_scene.h"

namespace lamps {
namespace {

using testing::crowd;
using testing::end_of;
using testing::engine_with;
using testing::Handles;
using testing::kCapacity;
using testing::slow_link;
using testing::step_at;
using testing::swap_pays;

using Sessions = std::vector<SessionHandle>;

constexpr Tokens kContext = 320;

Arrival turn(RequestHandle request, SessionHandle session, Tokens prompt, Seconds call) {
  Arrival arrival = testing::turn(request, session, prompt);
  arrival.hints.call_seconds = call;
  return arrival;
}

// A crowded engine, and session 0 that begins a long pause at t = 20.
class Swap : public ::testing::Test {
 protected:
  explicit Swap(Tokens host = 4096, const Options& options = swap_pays())
      : core(engine_with(host), options) {
    crowd(core, 0.0);
    pause(0, 20.0, 60.0);
  }
  void pause(SessionHandle session, Seconds now, Seconds call) {
    core.arrive(now, turn(session, session, kContext - 32, call));
    core.admitted(now, session, 0);
    core.finished(now, end_of(session, kContext, kContext));
  }
  StepPlan step(Seconds now, Tokens free_tokens = 0) {
    StepPlan plan = core.begin_step(step_at(now, free_tokens, 0));
    core.check_invariants();
    return plan;
  }
  void calm_down(Seconds now) {
    for (RequestHandle request = 90; request < 94; ++request) {
      core.finished(now, {.request = request,
                          .output_tokens = 0,
                          .context_tokens = 0,
                          .held_tokens = 0,
                          .aborted = true});
    }
  }

  PolicyCore core;
};

TEST_F(Swap, ALongPauseIsCopiedToTheHost) {
  const StepPlan plan = step(20.1);
  EXPECT_EQ(plan.swap_out, Sessions{0});
  EXPECT_TRUE(plan.release.empty());
  EXPECT_EQ(core.ledger().held_tokens(), 0);
  EXPECT_EQ(core.ledger().leaving_tokens(), kContext);
  EXPECT_TRUE(step(20.2).swap_out.empty());  // told once
  core.swapped_out(20.3, 0);
  EXPECT_EQ(core.ledger().leaving_tokens(), 0);
  EXPECT_EQ(core.ledger().host_tokens(), kContext);
  EXPECT_EQ(core.counters().swapped, 1);
  EXPECT_EQ(core.counters().discarded, 0);
}

TEST_F(Swap, AReturnBeforeThePlanKeepsTheKv) {
  core.arrive(20.0, turn(10, 0, 400, -1.0));
  const StepPlan plan = step(20.1);
  EXPECT_TRUE(plan.swap_out.empty());
  EXPECT_TRUE(plan.drop_host.empty());
  EXPECT_EQ(core.ledger().held_tokens(), kContext);
  EXPECT_EQ(core.ledger().request(10).shared_tokens, kContext);
}

TEST_F(Swap, AReturnDuringTheCopyTakesTheBlocksOver) {
  (void)step(20.1);
  core.arrive(20.2, turn(10, 0, 400, -1.0));
  EXPECT_EQ(core.ledger().request(10).shared_tokens, kContext);
  EXPECT_EQ(core.waiting_order(1), Handles{10});  // before the crowd: its KV is here
  core.admitted(20.3, 10, kContext);
  EXPECT_EQ(step(20.4).drop_host, Sessions{0});
  EXPECT_EQ(core.ledger().host_tokens(), 0);
  core.swapped_out(20.5, 0);  // too late to matter
  EXPECT_EQ(core.ledger().host_tokens(), 0);
  core.check_invariants();
}

TEST_F(Swap, ACopyThatEndsWhileTheTurnWaitsLeavesALoadToDo) {
  (void)step(20.1);
  core.arrive(20.2, turn(10, 0, 400, -1.0));
  core.swapped_out(20.3, 0);
  EXPECT_EQ(core.ledger().request(10).shared_tokens, 0);
  EXPECT_EQ(core.ledger().request(10).host_tokens, kContext);
  EXPECT_EQ(core.ledger().request(10).need(), 432);  // all of its blocks
  core.check_invariants();
}

TEST_F(Swap, AReturnWithKvOnTheHostLoadsInsteadOfComputing) {
  (void)step(20.1);
  core.swapped_out(20.3, 0);
  calm_down(20.5);
  core.arrive(21.0, turn(10, 0, 400, -1.0));
  core.arrive(21.1, turn(11, 11, 400, -1.0));
  EXPECT_EQ(core.ledger().request(10).host_tokens, kContext);
  StepView view = step_at(21.2, kCapacity);
  view.step_tokens = 81;  // 80 of request 10 are to be computed: one is left for request 11
  EXPECT_EQ(core.begin_step(view).admit, (Handles{10, 11}));
  view.step_tokens = 80;
  EXPECT_EQ(core.begin_step(view).admit, Handles{10});
  core.admitted(21.3, 10, kContext);
  EXPECT_EQ(step(21.4).drop_host, Sessions{0});
  core.check_invariants();
}

TEST_F(Swap, WhatAHostTierHasAnywayCountsToo) {
  Arrival arrival = turn(10, 10, 400, -1.0);
  arrival.host_tokens = 1000;
  core.arrive(20.0, arrival);
  EXPECT_EQ(core.ledger().request(10).host_tokens, 400);
}

// 320 tokens load in 0.32 s; a load is worth it 20 times as long before a return that is as likely
// as not: 3.2 s before t = 80.
TEST_F(Swap, TheKvIsFetchedBackShortlyBeforeTheReturn) {
  (void)step(20.1);
  core.swapped_out(20.3, 0);
  calm_down(20.5);
  EXPECT_TRUE(step(40.0, kCapacity).prefetch.empty());
  EXPECT_TRUE(step(76.0, kCapacity).prefetch.empty());
  EXPECT_EQ(step(79.9, kCapacity).prefetch, Sessions{0});
  EXPECT_EQ(core.ledger().host_tokens(), kContext);  // until it is there
  core.loaded(79.95, 0);
  EXPECT_EQ(core.ledger().held_tokens(), kContext);
  EXPECT_TRUE(step(79.96, kCapacity - kContext).drop_host.empty());  // the copy stays
  core.arrive(80.0, turn(10, 0, 400, -1.0));
  EXPECT_EQ(core.ledger().request(10).shared_tokens, kContext);
  EXPECT_EQ(core.ledger().request(10).host_tokens, 0);
  EXPECT_EQ(core.counters().prefetched, 1);
  core.admitted(80.1, 10, kContext);
  EXPECT_EQ(step(80.2, 0).drop_host, Sessions{0});
}

TEST_F(Swap, NothingIsFetchedIntoBlocksThatOthersWaitFor) {
  (void)step(20.1);
  core.swapped_out(20.3, 0);
  for (Seconds now = 79.0; now < 80.0; now += 0.1) {
    EXPECT_TRUE(step(now, kCapacity).prefetch.empty()) << now;  // the crowd wants all of it
  }
}

TEST_F(Swap, AReturnDuringTheLoadFindsItsBlocks) {
  (void)step(20.1);
  core.swapped_out(20.3, 0);
  calm_down(20.5);
  EXPECT_EQ(step(79.9, kCapacity).prefetch, Sessions{0});
  core.arrive(79.91, turn(10, 0, 400, -1.0));
  EXPECT_EQ(core.ledger().request(10).shared_tokens, kContext);
  core.loaded(79.95, 0);
  EXPECT_EQ(core.ledger().held_tokens(), kContext);
  EXPECT_EQ(core.ledger().request(10).shared_tokens, kContext);
  core.check_invariants();
}

TEST_F(Swap, ASessionThatDoesNotReturnLeavesTheHost) {
  (void)step(20.1);
  core.swapped_out(20.3, 0);
  const StepPlan plan = step(1000.0);
  EXPECT_EQ(plan.drop_host, Sessions{0});
  EXPECT_EQ(plan.forget, Sessions{0});
  EXPECT_EQ(core.ledger().host_tokens(), 0);
}

TEST_F(Swap, AnAbortedReturnLeavesTheHost) {
  (void)step(20.1);
  core.arrive(20.2, turn(10, 0, 400, -1.0));
  core.finished(
      20.3,
      {.request = 10, .output_tokens = 0, .context_tokens = 0, .held_tokens = 0, .aborted = true});
  const StepPlan plan = step(20.4);
  EXPECT_EQ(plan.drop_host, Sessions{0});  // though the copy is not done
  EXPECT_EQ(plan.forget, Sessions{0});
}

TEST_F(Swap, WhatTheCallerLosesIsLostEverywhere) {
  (void)step(20.1);
  core.swapped_out(20.3, 0);
  core.arrive(21.0, turn(10, 0, 400, -1.0));
  core.released(0);
  EXPECT_EQ(core.ledger().host_tokens(), 0);
  EXPECT_EQ(core.ledger().request(10).host_tokens, 0);
  EXPECT_TRUE(step(21.1).drop_host.empty());
}

TEST_F(Swap, TheDecisionIsRecorded) {
  core.record_decisions(true);
  pause(1, 21.0, 600.0);
  const std::vector<Decision> decisions = core.take_decisions();
  ASSERT_EQ(decisions.size(), 1U);
  EXPECT_EQ(decisions[0].handling, Handling::kSwap);
  EXPECT_LT(decisions[0].waste.swap, decisions[0].waste.discard);
}

class SwapIntoLittle : public Swap {
 protected:
  SwapIntoLittle() : Swap(2 * kContext - 1) {}
};

TEST_F(SwapIntoLittle, AFullHostMeansDropping) {
  pause(1, 20.0, 600.0);
  const StepPlan plan = step(20.1);
  EXPECT_EQ(plan.swap_out, Sessions{0});
  EXPECT_EQ(plan.release, Sessions{1});
  core.swapped_out(20.2, 0);
  core.released(0);
  pause(2, 20.3, 600.0);  // there is room again
  EXPECT_EQ(step(20.4).swap_out, Sessions{2});
}

TEST_F(SwapIntoLittle, WhatIsOnTheHostForLongestGivesWay) {
  EXPECT_EQ(step(20.1).swap_out, Sessions{0});
  core.swapped_out(20.2, 0);
  pause(1, 20.3, 600.0);
  const StepPlan plan = step(20.4);
  EXPECT_EQ(plan.drop_host, Sessions{0});  // told before the new copy is ordered
  EXPECT_EQ(plan.swap_out, Sessions{1});
  EXPECT_TRUE(plan.release.empty());
  core.arrive(21.0, turn(10, 0, 400, -1.0));
  EXPECT_EQ(core.ledger().request(10).host_tokens, 0);
}

TEST_F(SwapIntoLittle, ButNotFromATurnThatWaits) {
  (void)step(20.1);
  core.swapped_out(20.2, 0);
  core.arrive(20.25, turn(10, 0, 400, -1.0));
  pause(1, 20.3, 600.0);
  const StepPlan plan = step(20.4);
  EXPECT_TRUE(plan.drop_host.empty());
  EXPECT_EQ(plan.release, Sessions{1});
  EXPECT_EQ(core.ledger().request(10).host_tokens, kContext);
}

class SlowLink : public Swap {
 protected:
  SlowLink() : Swap(4096, slow_link()) {}
};

TEST_F(SlowLink, CopyingIsNotWorthMoreThanComputing) {
  const StepPlan plan = step(20.1);
  EXPECT_TRUE(plan.swap_out.empty());
  EXPECT_EQ(plan.release, Sessions{0});
}

// Four pauses fill the pool; a newcomer needs the place of one of them. It waits for the copy.
TEST(SwapForRoom, TheHeadWaitsForTheCopiesItNeeds) {
  Options options = swap_pays();
  options.redecide_seconds = 3600.0;  // nothing is let go for its own sake
  PolicyCore core(engine_with(1 << 20), options);
  for (SessionHandle session = 0; session < 4; ++session) {
    testing::pause_session(core, 0.0, session, kCapacity / 4);
  }
  const Handles running = {20};  // the engine is not idle
  const std::vector<Tokens> context = {0};
  core.arrive(0.0, testing::turn(20, 20, 16));
  core.admitted(0.0, 20, 0);
  core.arrive(0.0, testing::turn(10, 10, 900));
  const auto step = [&](Seconds now, Tokens free_tokens) {
    StepView view = step_at(now, free_tokens);
    view.running = running;
    view.context = context;
    return core.begin_step(view);
  };
  const StepPlan plan = step(0.1, 0);
  EXPECT_TRUE(plan.admit.empty());
  EXPECT_TRUE(plan.release.empty());
  ASSERT_EQ(plan.swap_out.size(), 1U);
  const StepPlan next = step(0.2, 0);  // it is on its way
  EXPECT_TRUE(next.swap_out.empty());
  EXPECT_TRUE(next.release.empty());
  core.swapped_out(0.3, plan.swap_out.front());
  EXPECT_EQ(step(0.4, kCapacity / 4).admit, Handles{10});
  core.check_invariants();
}

// Both sessions are back, and there is room for one of them.
TEST(SwapForRoom, KvWhoseTurnWaitsIsDroppedAndNotCopied) {
  PolicyCore core(engine_with(1 << 20), swap_pays());
  testing::pause_session(core, 0.0, 0, kCapacity / 2);
  testing::pause_session(core, 0.1, 1, kCapacity / 2);
  core.arrive(1.0, testing::turn(10, 0, 2300));
  core.arrive(1.1, testing::turn(11, 1, 2300));
  const StepPlan plan = core.begin_step(step_at(1.2, 0));
  EXPECT_EQ(plan.release, Sessions{1});
  EXPECT_TRUE(plan.swap_out.empty());
  for (Seconds now = 1.3; now < 500.0; now += 10.0) {  // and no timer of a pause is left behind
    EXPECT_TRUE(core.begin_step(step_at(now, kCapacity / 2)).forget.empty()) << now;
  }
  core.check_invariants();
}

TEST(SwapNames, EveryReasonAndHandlingHasAName) {
  EXPECT_EQ(std::string(to_string(Reason::kPrefetched)), "about to return");
  EXPECT_EQ(std::string(to_string(Handling::kSwap)), "swap");
}

}  // namespace
}  // namespace lamps
