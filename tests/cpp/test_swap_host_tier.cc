// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <random>
#include <set>

#include "expect_error.h"
#include "lamps/errors.h"
#include "swap/host_tier.h"

namespace lamps::swap {
namespace {

using lamps::testing::error_of;
using Ids = std::vector<BlockId>;
using Sessions = std::vector<SessionHandle>;

Ids some_blocks(int count, BlockId first = 100) {
  Ids blocks(static_cast<std::size_t>(count));
  std::iota(blocks.begin(), blocks.end(), first);
  return blocks;
}

// Stored, and the copy is complete.
void hold(HostTier& tier, SessionHandle session, int rows) {
  const auto order = tier.store(session, some_blocks(rows));
  ASSERT_TRUE(order.has_value());
  tier.finished(order->job, Outcome::kDone);
}

TEST(HostTier, StoresIntoOneExtentAndLoadsFromIt) {
  HostTier tier(100);
  const auto store = tier.store(7, Ids{40, 41, 9, 8});
  ASSERT_TRUE(store);
  EXPECT_EQ(store->direction, Direction::kStore);
  EXPECT_EQ(store->blocks, (Ids{40, 41, 9, 8}));
  EXPECT_EQ(store->slots, (Ids{0, 1, 3, 2}));
  EXPECT_EQ(store->pieces, (std::vector<Piece>{{{0, 4}, 4}}));
  EXPECT_EQ(tier.rows(7), 0);  // not before it is complete
  EXPECT_EQ(tier.jobs(7), 1);
  tier.finished(store->job, Outcome::kDone);
  EXPECT_EQ(tier.rows(7), 4);
  EXPECT_EQ(tier.slots(7, 1, 3), (Ids{1, 3, 2}));

  const Order load = tier.load(7, 1, Ids{60, 61, 62});
  EXPECT_EQ(load.direction, Direction::kLoad);
  EXPECT_NE(load.job, store->job);
  EXPECT_EQ(load.slots, (Ids{1, 3, 2}));
  EXPECT_EQ(load.pieces, (std::vector<Piece>{{{0, 4}, 3}}));
  tier.finished(load.job, Outcome::kDone);
  EXPECT_EQ(tier.rows(7), 4);
  tier.check_invariants();
}

TEST(HostTier, LaterStoresFollowAndLoadsSpanThem) {
  HostTier tier(100);
  hold(tier, 1, 10);
  hold(tier, 2, 5);
  hold(tier, 1, 20);
  EXPECT_EQ(tier.rows(1), 30);
  const Order load = tier.load(1, 8, some_blocks(10));
  EXPECT_EQ(load.pieces, (std::vector<Piece>{{{0, 10}, 2}, {{15, 20}, 8}}));
  EXPECT_EQ(load.slots, (Ids{8, 9, 0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(tier.load(1, 12, some_blocks(3)).pieces, (std::vector<Piece>{{{15, 20}, 3}}));
  tier.check_invariants();
}

TEST(HostTier, EvictsTheLeastRecentlyUsedOnly) {
  HostTier tier(30);
  for (const SessionHandle session : {1, 2, 3}) hold(tier, session, 10);
  tier.touch(1);
  hold(tier, 4, 5);
  EXPECT_EQ(tier.take_evicted(), Sessions{2});
  EXPECT_TRUE(tier.take_evicted().empty());
  EXPECT_EQ(tier.rows(2), 0);
  hold(tier, 5, 15);
  EXPECT_EQ(tier.take_evicted(), Sessions{3});
  EXPECT_EQ(tier.rows(1), 10);
  tier.check_invariants();
}

TEST(HostTier, AFullTierRefusesAndEvictsNobodyForNothing) {
  HostTier tier(30);
  hold(tier, 1, 20);
  hold(tier, 2, 10);
  const Order load = tier.load(1, 0, some_blocks(20));
  EXPECT_FALSE(tier.store(3, some_blocks(11)));  // only the 10 rows of session 2 are idle
  EXPECT_TRUE(tier.take_evicted().empty());
  EXPECT_EQ(tier.rows(2), 10);
  EXPECT_FALSE(tier.store(2, some_blocks(1)));  // a session does not evict itself
  EXPECT_FALSE(tier.store(4, some_blocks(31)));
  tier.finished(load.job, Outcome::kDone);
  EXPECT_TRUE(tier.store(3, some_blocks(11)));
  EXPECT_EQ(tier.take_evicted(), (Sessions{2, 1}));  // 1 was used later, by the load
  tier.check_invariants();
}

TEST(HostTier, FragmentsAreUsedWhereNoExtentIsLongEnough) {
  HostTier tier(30);
  for (const SessionHandle session : {1, 2, 3}) hold(tier, session, 10);
  tier.drop(1);
  tier.drop(3);
  const auto order = tier.store(4, some_blocks(15));
  ASSERT_TRUE(order);
  EXPECT_EQ(order->pieces, (std::vector<Piece>{{{0, 10}, 10}, {{20, 5}, 5}}));
  EXPECT_EQ(order->slots[9], 9);
  EXPECT_EQ(order->slots[10], 0);
  EXPECT_TRUE(tier.take_evicted().empty());
}

TEST(HostTier, AFailedStoreLeavesTheSessionAsItWas) {
  HostTier tier(30);
  hold(tier, 1, 10);
  for (const Outcome outcome :
       {Outcome::kCancelled, Outcome::kCopyFailed, Outcome::kInvalidBlocks}) {
    const auto more = tier.store(1, some_blocks(5));
    ASSERT_TRUE(more);
    tier.finished(more->job, outcome);
    EXPECT_EQ(tier.rows(1), 10);
    EXPECT_EQ(tier.free_rows(), 20);
    const auto first = tier.store(2, some_blocks(5));
    ASSERT_TRUE(first);
    tier.finished(first->job, outcome);
    EXPECT_EQ(tier.rows(2), 0);
    EXPECT_EQ(tier.free_rows(), 20);
    tier.check_invariants();
  }
}

TEST(HostTier, AFailedLoadKeepsTheRowsADamagedOneDropsThem) {
  HostTier tier(30);
  hold(tier, 1, 10);
  const Order failed = tier.load(1, 0, some_blocks(10));
  const Order damaged = tier.load(1, 0, some_blocks(5, 50));
  tier.finished(failed.job, Outcome::kCopyFailed);
  EXPECT_EQ(tier.rows(1), 10);
  tier.finished(damaged.job, Outcome::kChecksumMismatch);
  EXPECT_EQ(tier.rows(1), 0);
  EXPECT_EQ(tier.free_rows(), 30);
  tier.check_invariants();
}

TEST(HostTier, ADroppedSessionGoesWhenItsJobsAreOver) {
  HostTier tier(30);
  hold(tier, 1, 10);
  const Order load = tier.load(1, 0, some_blocks(10));
  const auto store = tier.store(1, some_blocks(5));
  tier.drop(1);
  EXPECT_EQ(tier.rows(1), 0);
  EXPECT_EQ(tier.free_rows(), 15);  // a copy may still use them
  EXPECT_EQ(error_of<UnknownHandle>([&] { (void)tier.store(1, some_blocks(1)); }),
            "session 1 is being dropped: expected one at rest");
  tier.finished(store->job, Outcome::kDone);
  EXPECT_EQ(tier.free_rows(), 15);
  tier.finished(load.job, Outcome::kDone);
  EXPECT_EQ(tier.free_rows(), 30);
  EXPECT_EQ(tier.jobs(1), 0);
  tier.drop(1);  // unknown by now, and that is fine
  tier.touch(1);
  tier.check_invariants();
}

TEST(HostTier, RefusesWhatItDoesNotHave) {
  HostTier tier(30);
  hold(tier, 1, 10);
  const auto loading = [&](SessionHandle session, Row first, int rows) {
    return error_of<UnknownHandle>([&] { (void)tier.load(session, first, some_blocks(rows)); });
  };
  EXPECT_EQ(loading(2, 0, 1), "rows [0, 1) of session 2: expected some in [0, 0)");
  EXPECT_EQ(loading(1, 5, 6), "rows [5, 11) of session 1: expected some in [0, 10)");
  EXPECT_FALSE(loading(1, -1, 1).empty());
  const auto store = tier.store(1, some_blocks(5));
  EXPECT_FALSE(loading(1, 10, 1).empty());  // not there yet
  EXPECT_EQ(error_of<UnknownHandle>([&] { (void)tier.store(1, some_blocks(1)); }),
            "session 1 is being stored: expected one at rest");
  tier.finished(store->job, Outcome::kDone);
  EXPECT_EQ(error_of<UnknownHandle>([&] { tier.finished(store->job, Outcome::kDone); }),
            "job 2: expected one under way");
  EXPECT_EQ(error_of<InvalidOption>([&] { (void)tier.store(3, {}); }),
            "blocks: expected one or more, got none");
  EXPECT_FALSE(error_of<InvalidOption>([&] { (void)tier.load(1, 0, {}); }).empty());
}

// Random use against a simple model: what each session should have.
TEST(HostTier, SurvivesAnyOrderOfEvents) {
  std::mt19937 random(4);
  HostTier tier(200);
  std::map<SessionHandle, Row> complete;
  std::vector<std::pair<SessionHandle, Order>> under_way;
  std::set<SessionHandle> dropped;
  const auto busy = [&](SessionHandle session) { return tier.jobs(session) > 0; };
  for (int round = 0; round < 20'000; ++round) {
    const auto session = static_cast<SessionHandle>(random() % 12);
    const int rows = 1 + static_cast<int>(random() % 50);
    switch (random() % 5) {
      case 0:
        if (busy(session)) break;
        if (auto order = tier.store(session, some_blocks(rows))) {
          under_way.emplace_back(session, std::move(*order));
        }
        break;
      case 1:
        if (tier.rows(session) == 0) break;
        under_way.emplace_back(
            session, tier.load(session, 0, some_blocks(static_cast<int>(tier.rows(session)))));
        break;
      case 2:
        tier.drop(session);
        complete.erase(session);
        if (busy(session)) dropped.insert(session);
        break;
      default: {
        if (under_way.empty()) break;
        std::swap(under_way[random() % under_way.size()], under_way.back());
        const auto [owner, order] = std::move(under_way.back());
        under_way.pop_back();
        const auto outcome = static_cast<Outcome>(random() % 5);
        const bool store = order.direction == Direction::kStore;
        if (store && outcome == Outcome::kDone && !dropped.contains(owner)) {
          complete[owner] += static_cast<Row>(order.blocks.size());
        }
        if (!store && outcome == Outcome::kChecksumMismatch) {
          complete.erase(owner);
          dropped.insert(owner);
        }
        tier.finished(order.job, outcome);
        if (!busy(owner)) dropped.erase(owner);
      }
    }
    for (const SessionHandle gone : tier.take_evicted()) complete.erase(gone);
    tier.check_invariants();
    for (SessionHandle s = 0; s < 12; ++s) {
      ASSERT_EQ(tier.rows(s), complete.contains(s) ? complete[s] : 0) << "session " << s;
    }
  }
}

}  // namespace
}  // namespace lamps::swap
