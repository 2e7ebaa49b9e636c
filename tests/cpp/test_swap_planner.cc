// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <set>

#include "expect_error.h"
#include "lamps/errors.h"
#include "swap/planner.h"
#include "swap_device.h"

namespace lamps::swap {
namespace {

using lamps::testing::error_of;
using testing::random_blocks;
using Ids = std::vector<BlockId>;

const Layout kLayout({{1 << 20, 64, 64}}, 1000);

std::vector<BlockRun> runs_of(const Ids& blocks, const Ids& slots) {
  Planner planner(kLayout);
  std::vector<BlockRun> runs;
  EXPECT_TRUE(planner.find_runs(blocks, slots, runs));
  return runs;
}

TEST(Planner, MergesAscendingBlocks) {
  EXPECT_EQ(runs_of({7, 8, 9}, {0, 1, 2}), (std::vector<BlockRun>{{7, 0, 3}}));
}

TEST(Planner, MergesDescendingBlocksWithDescendingSlots) {
  EXPECT_EQ(runs_of({9, 8, 7}, {2, 1, 0}), (std::vector<BlockRun>{{7, 0, 3}}));
}

TEST(Planner, MergesShuffledPairs) {
  EXPECT_EQ(runs_of({7, 3, 9, 8, 4}, {10, 0, 12, 11, 1}),
            (std::vector<BlockRun>{{7, 10, 3}, {3, 0, 2}}));
}

TEST(Planner, DoesNotMergeOppositeDirections) {
  EXPECT_EQ(runs_of({9, 8, 7}, {0, 1, 2}).size(), 3U);
  EXPECT_EQ(runs_of({7, 8, 9}, {0, 2, 4}).size(), 3U);
}

TEST(Planner, HasNoRunsForNoBlocks) { EXPECT_TRUE(runs_of({}, {}).empty()); }

TEST(Planner, ReachesTheEdgesOfTheLayout) {
  EXPECT_EQ(runs_of({0, 1, 998, 999}, {5, 6, 0, 1}),
            (std::vector<BlockRun>{{0, 5, 2}, {998, 0, 2}}));
  EXPECT_EQ(runs_of({0, 999}, {2147483647, 0}).size(), 2U);  // no overflow past the last slot
}

TEST(Planner, SaysWhenABlockOccursTwice) {
  Planner planner(kLayout);
  std::vector<BlockRun> runs;
  EXPECT_FALSE(planner.find_runs(Ids{4, 5, 4}, Ids{0, 1, 2}, runs));
  EXPECT_TRUE(planner.find_runs(Ids{4, 5, 6}, Ids{0, 1, 2}, runs));  // nothing is left behind
}

TEST(Planner, RefusesBlocksOutsideTheLayout) {
  Planner planner(kLayout);
  std::vector<BlockRun> runs;
  const auto refused = [&](const Ids& blocks, const Ids& slots) {
    return error_of<InvalidOption>([&] { (void)planner.find_runs(blocks, slots, runs); });
  };
  EXPECT_EQ(refused({1000}, {0}), "block = 1000: expected one in [0, 1000)");
  EXPECT_EQ(refused({-1}, {0}), "block = -1: expected one in [0, 1000)");
  EXPECT_EQ(refused({1}, {0, 1}), "slots has 2 entries: expected 1, one per block");
}

// Fewest: in the set of pairs, a run starts where the pair just below is missing.
TEST(Planner, FindsTheFewestRunsOfAnyLists) {
  std::mt19937 random(1);
  Planner planner(kLayout);
  std::vector<BlockRun> runs;
  for (int round = 0; round < 300; ++round) {
    const std::size_t count = 1 + random() % 200;
    const Ids blocks = random_blocks(random, 1000, count, 1 + random() % 8);
    const Ids slots = random_blocks(random, 400, count, 1 + random() % 8);
    std::set<std::pair<BlockId, BlockId>> pairs;
    for (std::size_t i = 0; i < count; ++i) pairs.insert({blocks[i], slots[i]});
    std::size_t fewest = 0;
    for (const auto& [block, slot] : pairs) fewest += !pairs.contains({block - 1, slot - 1});

    ASSERT_TRUE(planner.find_runs(blocks, slots, runs));
    EXPECT_EQ(runs.size(), fewest);
    for (const BlockRun& run : runs) {
      for (BlockId i = 0; i < run.count; ++i) {
        EXPECT_EQ(pairs.erase({run.block + i, run.slot + i}), 1U);
      }
    }
    EXPECT_TRUE(pairs.empty());
  }
}

TEST(AssignSlots, RunsThatCountDownAreStoredBackwards) {
  Ids slots;
  assign_slots(Ids{5, 6, 9, 8, 7, 2}, slots);
  EXPECT_EQ(slots, (Ids{0, 1, 4, 3, 2, 5}));
  EXPECT_EQ(runs_of({5, 6, 9, 8, 7, 2}, slots), (std::vector<BlockRun>{{5, 0, 5}, {2, 5, 1}}));
  assign_slots(Ids{}, slots);
  EXPECT_TRUE(slots.empty());
}

TEST(AssignSlots, EverySlotOnce) {
  std::mt19937 random(2);
  for (int round = 0; round < 50; ++round) {
    Ids slots;
    assign_slots(random_blocks(random, 300, 250, 6), slots);
    const std::set<BlockId> all(slots.begin(), slots.end());
    EXPECT_EQ(all.size(), 250U);
    EXPECT_EQ(*all.rbegin(), 249);
  }
}

TEST(MatchBlocks, GivesTheLowestSlotTheLowestBlock) {
  Ids blocks = {30, 10, 11, 12};
  match_blocks(Ids{2, 1, 0, 3}, blocks);
  EXPECT_EQ(blocks, (Ids{12, 11, 10, 30}));
  EXPECT_EQ(runs_of(blocks, {2, 1, 0, 3}).size(), 2U);
  EXPECT_EQ(error_of<InvalidOption>([&] { match_blocks(Ids{1}, blocks); }),
            "slots has 1 entries: expected 4, one per block");
}

TEST(ChoosePath, FollowsSizeNumberAndDirection) {
  const Calibration calibration;
  const auto path = [&](Direction direction, std::int64_t moves, Bytes each) {
    return choose_path(calibration, direction, moves, moves * each);
  };
  EXPECT_EQ(path(Direction::kStore, 1000, 256 << 10), Path::kDirect);
  EXPECT_EQ(path(Direction::kStore, 1000, (256 << 10) - 1), Path::kBatch);
  EXPECT_EQ(path(Direction::kStore, 1000, 8 << 10), Path::kStaged);
  EXPECT_EQ(path(Direction::kLoad, 1000, 8 << 10), Path::kZeroCopy);
  EXPECT_EQ(path(Direction::kLoad, 16, 8 << 10), Path::kDirect);
  EXPECT_EQ(path(Direction::kLoad, 17, 8 << 10), Path::kZeroCopy);
  EXPECT_EQ(path(Direction::kLoad, 0, 0), Path::kDirect);
}

TEST(ChoosePath, NamesArePrintable) {
  EXPECT_STREQ(to_string(Path::kZeroCopy), "zero-copy");
  EXPECT_STREQ(to_string(Path::kStaged), "staged");
  EXPECT_STREQ(to_string(Direction::kStore), "store");
  EXPECT_STREQ(to_string(Direction::kLoad), "load");
}

}  // namespace
}  // namespace lamps::swap
