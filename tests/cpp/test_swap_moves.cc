// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <random>

#include "swap/moves.h"

namespace lamps::swap {
namespace {

std::vector<Move> take(Moves& moves, const SliceLimit& limit = {}) {
  std::vector<Move> memory;
  const std::span<const Move> taken = moves.take(limit, memory);
  return {taken.begin(), taken.end()};
}

std::vector<Move> moves_of(const Layout& layout, Direction direction,
                           const std::vector<BlockRun>& runs, Address base, Row rows) {
  Moves moves;
  moves.reset(layout, direction);
  moves.add(runs, base, rows);
  return take(moves);
}

TEST(Moves, OneOfARunWithoutGaps) {
  const Layout layout({{1 << 20, 64, 64}}, 1000);
  EXPECT_EQ(moves_of(layout, Direction::kStore, {{7, 2, 3}}, 5000, 10),
            (std::vector<Move>{{(1 << 20) + 7 * 64, 5000 + 2 * 64, 3 * 64}}));
  EXPECT_EQ(moves_of(layout, Direction::kLoad, {{7, 2, 3}}, 5000, 10),
            (std::vector<Move>{{5000 + 2 * 64, (1 << 20) + 7 * 64, 3 * 64}}));
}

TEST(Moves, OnePerPageAcrossGaps) {
  EXPECT_EQ(moves_of(Layout({{1 << 20, 100, 64}}, 10), Direction::kStore, {{3, 0, 2}}, 5000, 2),
            (std::vector<Move>{{(1 << 20) + 300, 5000, 64}, {(1 << 20) + 400, 5064, 64}}));
}

TEST(Moves, CountBytesIn64Bits) {
  const Bytes page = 3 << 20;
  const std::uint64_t wide = page;
  EXPECT_EQ(
      moves_of(Layout({{1 << 20, page, page}}, 100'000), Direction::kLoad,
               {{90'000, 70'000, 9'000}}, 1 << 21, 80'000),
      (std::vector<Move>{{(1 << 21) + wide * 70'000, (1 << 20) + wide * 90'000, wide * 9'000}}));
}

TEST(Moves, NoneOfNothing) {
  const Layout layout({{1 << 20, 64, 64}}, 10);
  EXPECT_TRUE(moves_of(layout, Direction::kStore, {}, 5000, 10).empty());
}

TEST(Moves, TakenToTheLimits) {
  const Layout layout({{1 << 20, 64, 64}, {1 << 21, 64, 64}}, 100);
  Moves moves;
  moves.reset(layout, Direction::kStore);
  moves.add(std::vector<BlockRun>{{10, 0, 3}, {50, 3, 1}}, 4096, 4);
  EXPECT_EQ(moves.count(), 4U);
  const Address a = 1 << 20, b = 1 << 21;
  EXPECT_EQ(take(moves, {100, 9}), (std::vector<Move>{{a + 640, 4096, 100}}));
  EXPECT_EQ(take(moves, {92, 9}), (std::vector<Move>{{a + 740, 4196, 92}}));  // to the very end
  EXPECT_EQ(take(moves, {1000, 1}), (std::vector<Move>{{a + 3200, 4288, 64}}));
  EXPECT_FALSE(moves.all_taken());
  EXPECT_EQ(take(moves, {200, 9}), (std::vector<Move>{{b + 640, 4352, 192}, {b + 3200, 4544, 8}}));
  EXPECT_EQ(take(moves), (std::vector<Move>{{b + 3208, 4552, 56}}));
  EXPECT_TRUE(moves.all_taken());
  EXPECT_TRUE(take(moves).empty());
  EXPECT_EQ(moves.count(), 4U);
}

TEST(Moves, MemoryGrowsToTheLimitAndNoFurther) {
  const Layout layout({{1 << 20, 64, 64}}, 100);
  Moves moves;
  moves.reset(layout, Direction::kStore);
  moves.add(std::vector<BlockRun>{{1, 0, 1}, {3, 1, 1}, {5, 2, 1}}, 4096, 3);
  std::vector<Move> memory;
  EXPECT_EQ(moves.take({1 << 20, 2}, memory).size(), 2U);
  EXPECT_EQ(memory.size(), 2U);
  EXPECT_EQ(moves.take({1 << 20, 2}, memory).size(), 1U);
  EXPECT_EQ(memory.size(), 2U);
}

// Every byte of every page, as a plain loop over parts, regions, runs and blocks has them.
class Reference {
 public:
  Reference(const Layout& layout, Direction direction) : layout_(layout), direction_(direction) {}
  void add(const std::vector<BlockRun>& runs, Address host, Row rows) {
    for (const Region& region : layout_.regions()) {
      for (const BlockRun& run : runs) {
        for (std::int64_t i = 0; i < run.count; ++i) {
          const auto there = region.base + static_cast<Address>((run.block + i) * region.stride);
          const auto here = host + static_cast<Address>((run.slot + i) * region.page);
          for (Address byte = 0; byte < static_cast<Address>(region.page); ++byte) {
            bytes.push_back(direction_ == Direction::kStore ? std::pair(there + byte, here + byte)
                                                            : std::pair(here + byte, there + byte));
          }
        }
      }
      host += static_cast<Address>(region.page * rows);
    }
  }
  std::vector<std::pair<Address, Address>> bytes;

 private:
  const Layout& layout_;
  Direction direction_;
};

TEST(Moves, OfAnyLayoutInAnySlicesAreThoseOfPlainLoops) {
  std::mt19937 random(3);
  const auto below = [&](std::uint32_t limit) {
    return static_cast<std::int64_t>(random() % limit);
  };
  Moves moves;
  std::vector<Move> memory;
  for (int round = 0; round < 300; ++round) {
    std::vector<Region> regions;
    for (Address r = 1, count = 1 + random() % 5; r <= count; ++r) {
      const Bytes page = 1 + below(3);
      regions.push_back({r << 32, page + below(2), page});
    }
    const Layout layout(regions, 100);
    const Direction direction = random() % 2 == 0 ? Direction::kStore : Direction::kLoad;
    Reference reference(layout, direction);
    moves.reset(layout, direction);
    for (std::int64_t part = below(4); part >= 0; --part) {
      std::vector<BlockRun> runs(random() % 6);
      for (BlockRun& run : runs) {
        run = {static_cast<BlockId>(below(90)), static_cast<BlockId>(below(90)),
               static_cast<BlockId>(1 + below(10))};
      }
      const Address base = static_cast<Address>(1 + below(1000)) << 16;
      moves.add(runs, base, 100);
      reference.add(runs, base, 100);
    }
    std::vector<std::pair<Address, Address>> bytes;
    while (!moves.all_taken()) {
      const SliceLimit limit{1 + below(40), 1 + random() % 12};
      const std::span<const Move> slice = moves.take(limit, memory);
      ASSERT_LE(slice.size(), limit.moves);
      const std::size_t before = bytes.size();
      for (const Move& move : slice) {
        for (Address i = 0; i < move.bytes; ++i)
          bytes.push_back({move.source + i, move.target + i});
      }
      ASSERT_LE(bytes.size() - before, static_cast<std::size_t>(limit.bytes));
      ASSERT_GT(bytes.size(), before);
    }
    ASSERT_EQ(bytes, reference.bytes);
  }
}

}  // namespace
}  // namespace lamps::swap
