// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "sim/swap_space.h"
#include "sim_scene.h"

namespace lamps::sim {
namespace {

using What = SwapSpace::What;

constexpr SessionHandle kSession = 3;
constexpr Blocks kRows = 20;

// A pool of 12 blocks of 4 tokens; a block is copied in a second. One session has left 5 full
// blocks.
class SwapSpaceTest : public ::testing::Test {
 protected:
  static EngineModel model() {
    EngineModel engine = testing::small_engine(12);
    engine.host_tokens = kRows * 4;
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
  void put_on_host(SessionHandle session, const KeptBlocks& blocks) {
    EXPECT_TRUE(swap.copy_out(0.0, session, blocks, blocks.end));
    (void)swap.poll(1000.0);
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
  EXPECT_TRUE(swap.copy_out(0.0, kSession, kept, 5));
  EXPECT_EQ(swap.host_blocks(), 5);
  EXPECT_EQ(swap.loadable(kSession), 0);
  EXPECT_TRUE(swap.poll(4.9).empty());
  const auto out = swap.poll(5.0);
  ASSERT_EQ(out.size(), 1U);
  EXPECT_EQ(out[0].what, What::kOut);
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
  EXPECT_EQ(in[0].what, What::kIn);
  const KeptBlocks back = swap.take_loaded(kSession);
  EXPECT_EQ(back.end, 5);
  EXPECT_EQ(hit(23), 5);
  EXPECT_FALSE(swap.drop(kSession, 15.0));
  swap.forget(kSession, 15.0);
  EXPECT_EQ(swap.host_blocks(), 0);
  kv.drop(back);
  kv.pool().check_invariants(0);
}

TEST_F(SwapSpaceTest, OnlyWhatThePoolHasLostIsLoaded) {
  EXPECT_TRUE(swap.copy_out(0.0, kSession, kept, 5));
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
  EXPECT_TRUE(swap.copy_out(0.0, kSession, kept, 5));
  EXPECT_TRUE(swap.drop(kSession, 1.0));  // its blocks are the caller's to free
  EXPECT_EQ(swap.host_blocks(), 0);
  EXPECT_TRUE(swap.poll(9.0).empty());
  EXPECT_TRUE(swap.copy_out(9.0, kSession, kept, 5));
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

TEST_F(SwapSpaceTest, ACopyWhoseBlocksATurnTakesOverServesTheNextPause) {
  EXPECT_TRUE(swap.copy_out(0.0, kSession, kept, 5));
  swap.taken_over(kSession);
  EXPECT_FALSE(swap.drop(kSession, 1.0));  // what the core says then
  EXPECT_EQ(swap.loadable(kSession), 0);
  const auto done = swap.poll(9.0);
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].what, What::kUnused);
  EXPECT_EQ(swap.loadable(kSession), 5);
  EXPECT_EQ(swap.host_blocks(), 5);
}

TEST_F(SwapSpaceTest, TheNextCopyIsOfWhatIsNew) {
  put_on_host(kSession, kept);
  swap.taken_over(kSession);
  const KeptBlocks longer = leave(request, 31);  // 7 blocks
  kv.drop(kept);
  EXPECT_TRUE(swap.copy_out(10.0, kSession, longer, 7));
  EXPECT_EQ(swap.host_blocks(), 7);
  EXPECT_EQ(swap.stored_blocks(), 7);
  const auto done = swap.poll(12.0);
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].blocks, 2);
  EXPECT_EQ(swap.loadable(kSession), 7);
  kv.drop(longer);
}

TEST_F(SwapSpaceTest, WhatIsThereIsNotCopiedAgain) {
  put_on_host(kSession, kept);
  swap.taken_over(kSession);
  EXPECT_FALSE(swap.copy_out(10.0, kSession, kept, 5));  // the blocks are free at once
  const auto out = swap.poll(10.0);
  ASSERT_EQ(out.size(), 1U);
  EXPECT_EQ(out[0].what, What::kOut);
  EXPECT_EQ(out[0].blocks, 0);
  swap.taken_over(kSession);
  swap.copy_ahead(11.0, kSession, kept, 5);
  ASSERT_EQ(swap.poll(11.0).size(), 1U);
  EXPECT_EQ(swap.stored_blocks(), 5);
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, NobodyHearsOfACopyWhoseTurnHasStarted) {
  put_on_host(kSession, kept);
  EXPECT_FALSE(swap.copy_out(10.0, kSession, kept, 5));
  swap.taken_over(kSession);
  EXPECT_TRUE(swap.poll(10.0).empty());
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, WhatARewrittenHistoryLeavesBehindStaysUntilTheImageGoes) {
  put_on_host(kSession, kept);
  swap.taken_over(kSession);
  swap.rewritten(kSession, 3);
  EXPECT_EQ(swap.loadable(kSession), 3);
  EXPECT_EQ(swap.host_blocks(), 5);
  EXPECT_TRUE(swap.copy_out(10.0, kSession, kept, 5));
  EXPECT_EQ(swap.host_blocks(), 7);
  ASSERT_EQ(swap.poll(12.0).size(), 1U);
  EXPECT_EQ(swap.loadable(kSession), 5);
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, SpareImagesGiveWayTheLeastRecentlyUsedFirst) {
  for (SessionHandle each = 0; each < 4; ++each) put_on_host(each, kept);
  EXPECT_EQ(swap.host_blocks(), kRows);
  for (const SessionHandle each : {2, 0, 1, 2}) swap.taken_over(each);
  EXPECT_TRUE(swap.copy_out(50.0, kSession + 1, kept, 5));
  EXPECT_EQ(swap.loadable(0), 0);
  EXPECT_EQ(swap.loadable(1), 5);
  EXPECT_EQ(swap.loadable(2), 5);
  EXPECT_EQ(swap.loadable(3), 5);
  (void)swap.load(1, 5, 50.0);  // is read until t = 55, so it stays
  EXPECT_TRUE(swap.copy_out(51.0, kSession + 2, kept, 5));
  EXPECT_EQ(swap.loadable(1), 5);
  EXPECT_EQ(swap.loadable(2), 0);
  EXPECT_EQ(swap.host_blocks(), kRows);
  swap.check_invariants();
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, TheCoreIsToldOfWhatItCountsOnAndHasToGo) {
  for (SessionHandle each = 0; each < 4; ++each) put_on_host(each, kept);
  EXPECT_TRUE(swap.copy_out(50.0, 4, kept, 5));
  const auto lost = swap.poll(50.0);
  ASSERT_EQ(lost.size(), 1U);
  EXPECT_EQ(lost[0].what, What::kLost);
  EXPECT_EQ(lost[0].session, 0);
  EXPECT_EQ(swap.loadable(0), 0);
  EXPECT_EQ(swap.host_blocks(), kRows);
  swap.copy_in(50.0, 0, &request);  // ordered before it heard
  EXPECT_FALSE(swap.loading(0));
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, WhatFindsNoRoomIsLost) {
  for (SessionHandle each = 0; each < 4; ++each) {
    EXPECT_TRUE(swap.copy_out(0.0, each, kept, 5));  // nobody can give way yet
  }
  EXPECT_FALSE(swap.copy_out(1.0, 4, kept, 5));
  const auto lost = swap.poll(1.0);
  ASSERT_EQ(lost.size(), 1U);
  EXPECT_EQ(lost[0].what, What::kLost);
  EXPECT_EQ(lost[0].session, 4);
  EXPECT_EQ(swap.host_blocks(), kRows);
  kv.drop(kept);
}

// Whatever comes: rows add up, and there are never more than there is memory for.
TEST_F(SwapSpaceTest, RoomIsNeverExceeded) {
  std::mt19937_64 random(7);
  const auto below = [&](int end) {
    return static_cast<int>(random() % static_cast<unsigned>(end));
  };
  Seconds now = 0.0;
  Blocks most = 0;
  int lost = 0;
  for (int i = 0; i < 20'000; ++i) {
    const SessionHandle session = below(8);
    KeptBlocks some = kept;
    some.end = 1 + below(9);
    switch (below(7)) {
      case 0:
        (void)swap.copy_out(now, session, some, some.end);
        break;
      case 1:
        swap.copy_ahead(now, session, some, some.end);
        break;
      case 2:
        swap.taken_over(session);
        break;
      case 3:
        (void)swap.drop(session, now);
        break;
      case 4:
        swap.rewritten(session, below(6));
        break;
      case 5:
        if (swap.loadable(session) > 0) (void)swap.load(session, swap.loadable(session), now);
        break;
      default:
        if (below(8) == 0) swap.forget(session, now);
    }
    swap.check_invariants();
    EXPECT_LE(swap.host_blocks(), kRows);
    EXPECT_LE(swap.loadable(session), swap.host_blocks());
    most = std::max(most, swap.host_blocks());
    now += 0.5 * below(4);
    for (const auto& done : swap.poll(now)) lost += done.what == What::kLost ? 1 : 0;
  }
  EXPECT_EQ(most, kRows);
  EXPECT_GT(lost, 100);
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, ACopyAheadOfNeedLeavesTheBlocksWhereTheyAre) {
  swap.copy_ahead(0.0, kSession, kept, 5);
  EXPECT_EQ(swap.host_blocks(), 5);
  EXPECT_EQ(swap.loadable(kSession), 0);
  EXPECT_TRUE(swap.poll(4.9).empty());
  const auto done = swap.poll(5.0);
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].what, What::kAhead);
  EXPECT_EQ(swap.loadable(kSession), 5);
  EXPECT_EQ(hit(23), 5);
  EXPECT_FALSE(swap.drop(kSession, 6.0));
  EXPECT_EQ(swap.loadable(kSession), 5);  // spare now
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, ACopyAheadOfNeedStandsBackForOthers) {
  TurnRequest other;
  other.client = 1;
  const KeptBlocks urgent = leave(other, 12);
  swap.copy_ahead(0.0, kSession, kept, 5);
  EXPECT_TRUE(
      swap.copy_out(2.0, kSession + 1, urgent, 3));  // runs at once, and the first goes on at t = 5
  const auto first = swap.poll(5.0);
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first[0].session, kSession + 1);
  EXPECT_EQ(first[0].what, What::kOut);
  EXPECT_TRUE(swap.poll(7.9).empty());
  ASSERT_EQ(swap.poll(8.0).size(), 1U);
  kv.drop(urgent);
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, ACopyAheadOfNeedBecomesOneOut) {
  swap.copy_ahead(0.0, kSession, kept, 5);
  EXPECT_TRUE(swap.copy_out(3.0, kSession, kept, 5));
  EXPECT_EQ(swap.host_blocks(), 5);
  EXPECT_EQ(swap.stored_blocks(), 5);
  const auto done = swap.poll(5.0);
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].what, What::kOut);
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, ACopyAheadOfNeedIsCalledOff) {
  swap.copy_ahead(9.0, kSession, kept, 5);
  EXPECT_FALSE(swap.drop(kSession, 10.0));  // its blocks stay kept
  EXPECT_TRUE(swap.poll(99.0).empty());
  EXPECT_EQ(swap.host_blocks(), 0);
  kv.drop(kept);
}

TEST_F(SwapSpaceTest, ALoadWaitsForRoom) {
  EXPECT_TRUE(swap.copy_out(0.0, kSession, kept, 5));
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
  EXPECT_TRUE(swap.copy_out(0.0, kSession, kept, 5));
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
  EXPECT_TRUE(swap.copy_out(0.0, kSession, kept, 5));
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
