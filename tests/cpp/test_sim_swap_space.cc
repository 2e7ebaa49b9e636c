// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "sim/swap_space.h"
#include "sim_scene.h"

namespace lamps::sim {
namespace {

constexpr SessionHandle kSession = 3;

// A pool of 12 blocks of 4 tokens; a block is copied in a second. One session has left 5 full
// blocks.
class SwapSpaceTest : public ::testing::Test {
 protected:
  static EngineModel model() {
    EngineModel engine = testing::small_engine(12);
    engine.host_tokens = 400;
    engine.host_use = HostUse::kSwap;
    engine.cost.kv_bytes_per_token = 100;
    engine.cost.swap_bytes_per_s = 400.0;
    engine.validate();
    return engine;
  }
  SwapSpaceTest() : kv(model()), swap(model(), kv) {
    request.client = 0;
    kept = leave(request, 22);
  }
  // A turn of so many computed tokens starts and ends.
  KeptBlocks leave(const TurnRequest& from, Tokens tokens) {
    Turn turn;
    kv.attach(turn, from);
    turn.tokens = tokens + 1;
    kv.start(turn, kv.hit(turn), tokens);
    kv.commit(turn, tokens);
    return kv.keep(turn, 0.0);
  }
  void evict_everything() {
    TurnRequest other;
    other.client = 1;
    kv.drop(leave(other, 48));
  }
  Blocks hit(Tokens tokens) {
    Turn turn;
    kv.attach(turn, request);
    turn.tokens = tokens;
    return kv.hit(turn);
  }

  KvCache kv;
  SwapSpace swap;
  TurnRequest request;
  KeptBlocks kept;
};

TEST_F(SwapSpaceTest, OutAndBackIn) {
  swap.copy_out(0.0, kSession, kept, 5);
  EXPECT_EQ(swap.host_blocks(), 5);
  EXPECT_EQ(swap.loadable(kSession), 0);
  EXPECT_TRUE(swap.poll(4.9).empty());
  const auto out = swap.poll(5.0);
  ASSERT_EQ(out.size(), 1U);
  EXPECT_TRUE(out[0].out);
  EXPECT_EQ(out[0].blocks, 5);
  EXPECT_DOUBLE_EQ(out[0].seconds, 5.0);
  EXPECT_EQ(swap.loadable(kSession), 5);
  kv.drop(kept);
  evict_everything();
  EXPECT_EQ(hit(23), 0);

  swap.copy_in(10.0, kSession, &request);
  EXPECT_TRUE(swap.loading(kSession));
  EXPECT_EQ(kv.pool().free(), 7);
  kv.pool().check_invariants(swap.landing_blocks());
  EXPECT_EQ(hit(23), 0);  // nothing is there before the load is complete
  const auto in = swap.poll(15.0);
  ASSERT_EQ(in.size(), 1U);
  EXPECT_FALSE(in[0].out);
  const KeptBlocks back = swap.take_loaded(kSession);
  EXPECT_EQ(back.end, 5);
  EXPECT_EQ(hit(23), 5);
  EXPECT_FALSE(swap.drop(kSession, 15.0));
  EXPECT_EQ(swap.host_blocks(), 0);
  kv.drop(back);
  kv.pool().check_invariants(0);
}

TEST_F(SwapSpaceTest, OnlyWhatThePoolHasLostIsLoaded) {
  swap.copy_out(0.0, kSession, kept, 5);
  (void)swap.poll(5.0);
  kv.drop(kept);
  TurnRequest other;
  other.client = 1;
  kv.drop(leave(other, 36));  // 9 of 12 blocks: 3 of the session's stay
  EXPECT_EQ(hit(23), 3);
  swap.copy_in(5.0, kSession, &request);
  EXPECT_TRUE(swap.poll(6.9).empty());
  EXPECT_EQ(swap.poll(7.0).size(), 1U);
  kv.drop(swap.take_loaded(kSession));
  EXPECT_EQ(hit(23), 5);
}

TEST_F(SwapSpaceTest, CopiesAreDroppedAtAnyPoint) {
  swap.copy_out(0.0, kSession, kept, 5);
  EXPECT_TRUE(swap.drop(kSession, 1.0));  // its blocks are the caller's to free
  EXPECT_EQ(swap.host_blocks(), 0);
  EXPECT_TRUE(swap.poll(9.0).empty());
  swap.copy_out(9.0, kSession, kept, 5);
  (void)swap.poll(20.0);
  kv.drop(kept);
  evict_everything();
  swap.copy_in(20.0, kSession, &request);
  EXPECT_FALSE(swap.drop(kSession, 21.0));
  EXPECT_EQ(kv.pool().free(), 12);
  EXPECT_TRUE(swap.poll(99.0).empty());
  EXPECT_FALSE(swap.drop(kSession, 99.0));
  kv.pool().check_invariants(0);
}

TEST_F(SwapSpaceTest, ATurnTakesOverACopyOnItsWayOut) {
  swap.copy_out(0.0, kSession, kept, 5);
  swap.taken_over(kSession);
  EXPECT_TRUE(swap.poll(9.0).empty());
  EXPECT_EQ(swap.host_blocks(), 0);
  EXPECT_FALSE(swap.drop(kSession, 9.0));
}

TEST_F(SwapSpaceTest, ACopyAheadOfNeedLeavesTheBlocksWhereTheyAre) {
  swap.copy_ahead(0.0, kSession, kept, 5);
  EXPECT_EQ(swap.host_blocks(), 5);
  EXPECT_EQ(swap.loadable(kSession), 0);
  EXPECT_TRUE(swap.poll(4.9).empty());
  const auto done = swap.poll(5.0);
  ASSERT_EQ(done.size(), 1U);
  EXPECT_TRUE(done[0].out);
  EXPECT_TRUE(done[0].kept);
  EXPECT_EQ(swap.loadable(kSession), 5);
  EXPECT_EQ(hit(23), 5);
  EXPECT_FALSE(swap.drop(kSession, 6.0));
  EXPECT_EQ(swap.host_blocks(), 0);
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, ACopyAheadOfNeedStandsBackForOthers) {
  TurnRequest other;
  other.client = 1;
  const KeptBlocks urgent = leave(other, 12);
  swap.copy_ahead(0.0, kSession, kept, 5);
  swap.copy_out(2.0, kSession + 1, urgent, 3);  // runs at once, and the first goes on at t = 5
  const auto first = swap.poll(5.0);
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first[0].session, kSession + 1);
  EXPECT_FALSE(first[0].kept);
  EXPECT_TRUE(swap.poll(7.9).empty());
  ASSERT_EQ(swap.poll(8.0).size(), 1U);
  kv.drop(urgent);
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, ACopyAheadOfNeedBecomesOneOut) {
  swap.copy_ahead(0.0, kSession, kept, 5);
  swap.copy_out(3.0, kSession, kept, 5);
  EXPECT_EQ(swap.host_blocks(), 5);
  EXPECT_EQ(swap.stored_blocks(), 5);
  const auto done = swap.poll(5.0);
  ASSERT_EQ(done.size(), 1U);
  EXPECT_FALSE(done[0].kept);
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, ACopyAheadOfNeedIsCalledOff) {
  swap.copy_ahead(0.0, kSession, kept, 5);
  swap.taken_over(kSession);
  EXPECT_EQ(swap.host_blocks(), 0);
  EXPECT_TRUE(swap.poll(9.0).empty());
  swap.copy_ahead(9.0, kSession, kept, 5);
  EXPECT_FALSE(swap.drop(kSession, 10.0));  // its blocks stay kept
  EXPECT_TRUE(swap.poll(99.0).empty());
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, ALoadWaitsForRoom) {
  swap.copy_out(0.0, kSession, kept, 5);
  (void)swap.poll(5.0);
  kv.drop(kept);
  TurnRequest other;
  other.client = 1;
  const KeptBlocks full = leave(other, 48);
  swap.copy_in(5.0, kSession, &request);
  EXPECT_FALSE(swap.loading(kSession));
  EXPECT_EQ(swap.loadable(kSession), 5);  // a turn that starts meanwhile loads it itself
  (void)swap.poll(6.0);
  kv.drop(full);
  EXPECT_TRUE(swap.poll(7.0).empty());
  EXPECT_TRUE(swap.loading(kSession));
  EXPECT_EQ(swap.poll(12.0).size(), 1U);
}

TEST_F(SwapSpaceTest, ASessionThatHasEndedIsLoadedForNothing) {
  swap.copy_out(0.0, kSession, kept, 5);
  (void)swap.poll(5.0);
  kv.drop(kept);
  kv.client_gone(0);
  swap.copy_in(5.0, kSession, nullptr);
  EXPECT_EQ(kv.pool().free(), 7);
  EXPECT_EQ(swap.poll(10.0).size(), 1U);
  const KeptBlocks back = swap.take_loaded(kSession);
  EXPECT_EQ(kv.unique(back), 5);
  kv.pool().check_invariants(5);
  kv.drop(back);
  kv.pool().check_invariants(0);
}

TEST_F(SwapSpaceTest, AHistoryRewrittenDuringTheLoadIsNotHit) {
  swap.copy_out(0.0, kSession, kept, 5);
  (void)swap.poll(5.0);
  kv.drop(kept);
  TurnRequest other;
  other.client = 1;
  kv.drop(leave(other, 36));  // 3 blocks stay
  swap.copy_in(5.0, kSession, &request);
  kv.rewritten(0, 9, nullptr, swap.landing(kSession));
  swap.rewritten(kSession, 2);
  kv.pool().check_invariants(swap.landing_blocks());
  ASSERT_EQ(swap.poll(7.0).size(), 1U);
  const KeptBlocks back = swap.take_loaded(kSession);
  EXPECT_EQ(hit(23), 2);
  EXPECT_EQ(kv.unique(back), 5);  // it holds what was loaded all the same
  kv.drop(back);
  kv.pool().check_invariants(0);
}

}  // namespace
}  // namespace lamps::sim
