// SPDX-License-Identifier: Apache-2.0
// The mover with the CPU backend: bytes, checksums, faults. Order of service: test_swap_service.cc.
#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "expect_error.h"
#include "swap/errors.h"
#include "swap/mover.h"
#include "swap_backends.h"
#include "swap_device.h"

namespace lamps::swap {
namespace {

using lamps::testing::error_of;
using testing::Device;
using testing::FrailBackend;
using testing::random_blocks;
using testing::Shape;
using Ids = std::vector<BlockId>;

constexpr Seconds kPatience = 60;

Clock ticks() {
  return [now = 0.0]() mutable { return now += 1.0; };
}

std::unique_ptr<Mover> mover_of(const Device& device, Row rows, bool checksums = false,
                                int threads = 1) {
  return std::make_unique<Mover>(device.layout(), std::make_unique<CpuBackend>(threads),
                                 MoverOptions{.host_rows = rows, .checksums = checksums}, [] {
                                   return 0.0;  // called by two threads: no state
                                 });
}

// Submits, waits, and tells the tier; the last completion.
Completion carry_out(Mover& mover, HostTier& tier, Order order) {
  mover.submit({.order = std::move(order)});
  EXPECT_TRUE(mover.wait_idle(kPatience));
  std::vector<Completion> completions;
  mover.poll(completions);
  if (completions.empty()) {
    ADD_FAILURE() << "no completion";
    return {};
  }
  tier.finished(completions.back().job, completions.back().outcome);
  return completions.back();
}

struct World {
  Shape shape;
  int layers;
  Bytes page;
  int threads;
};

class MoverFuzz : public ::testing::TestWithParam<World> {};

// Sessions come, are swapped out, their blocks overwritten, loaded into other blocks and compared
// byte by byte; nothing else in the device's memory may change.
TEST_P(MoverFuzz, WhatComesBackIsWhatWentOut) {
  const World& world = GetParam();
  constexpr BlockId kBlocks = 96;
  Device device(world.shape, world.layers, world.page, kBlocks);
  const auto mover = mover_of(device, 70, true, world.threads);
  HostTier tier(70);
  std::mt19937 random(static_cast<unsigned>(world.page) + 7);
  std::map<SessionHandle, std::vector<std::vector<std::byte>>> expected;
  for (int round = 0; round < 60; ++round) {
    const auto session = static_cast<SessionHandle>(random() % 5);
    const std::size_t count = 1 + random() % 30;
    const Ids blocks = random_blocks(random, kBlocks, count, 1 + random() % 10);
    if (random() % 2 == 0) {
      device.fill(static_cast<unsigned>(round));
      auto order = tier.store(session, blocks);
      for (const SessionHandle gone : tier.take_evicted()) expected.erase(gone);
      if (!order) continue;
      const Completion done = carry_out(*mover, tier, std::move(*order));
      ASSERT_EQ(done.outcome, Outcome::kDone);
      EXPECT_EQ(done.bytes, device.layout().row_bytes() * static_cast<Bytes>(count));
      for (const BlockId block : blocks) expected[session].push_back(device.read(block));
      for (const BlockId block : blocks) device.poison(block);
    } else if (const Row rows = std::min<Row>(tier.rows(session), static_cast<Row>(count));
               rows > 0) {
      const Row first = static_cast<Row>(random()) % (tier.rows(session) - rows + 1);
      const std::span<const BlockId> targets(blocks.data(), static_cast<std::size_t>(rows));
      const auto before = device.read_all();
      ASSERT_EQ(carry_out(*mover, tier, tier.load(session, first, targets)).outcome,
                Outcome::kDone);
      std::vector<bool> loaded(kBlocks);
      for (Row i = 0; i < rows; ++i) {
        const BlockId block = targets[static_cast<std::size_t>(i)];
        loaded[static_cast<std::size_t>(block)] = true;
        ASSERT_EQ(device.read(block), expected[session][static_cast<std::size_t>(first + i)]);
      }
      for (BlockId block = 0; block < kBlocks; ++block) {
        if (!loaded[static_cast<std::size_t>(block)]) {
          ASSERT_EQ(device.read(block), before[static_cast<std::size_t>(block)]);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, MoverFuzz,
                         ::testing::Values(World{Shape::kBlockFirst, 3, 4096, 1},
                                           World{Shape::kLayerFirst, 4, 8192, 1},
                                           World{Shape::kLayerFirst, 2, 100'000, 3},
                                           World{Shape::kPaddedLayers, 3, 1000, 1},
                                           World{Shape::kPaddedLayers, 1, 777, 2}));

TEST(Mover, ReportsWhatAJobWas) {
  Device device(Shape::kLayerFirst, 4, 512, 64);
  Mover mover(device.layout(), std::make_unique<CpuBackend>(1), {.host_rows = 20}, ticks());
  HostTier tier(20);
  device.fill(1);
  const Completion done = carry_out(mover, tier, *tier.store(3, Ids{9, 8, 7, 30}));
  EXPECT_EQ(done.job, 1);
  EXPECT_EQ(done.direction, Direction::kStore);
  EXPECT_EQ(done.stage, Stage::kFinished);
  EXPECT_EQ(done.outcome, Outcome::kDone);
  EXPECT_EQ(done.bytes, 4 * 4 * 512);
  EXPECT_EQ(done.moves, 2 * 4);  // two runs in each of four layers
  EXPECT_LT(done.queued, done.started);
  EXPECT_LT(done.started, done.ended);
}

TEST(Mover, ABlockTwiceIsAnOutcomeAndNothingIsCopied) {
  Device device(Shape::kBlockFirst, 1, 512, 64);
  const auto mover = mover_of(device, 20);
  HostTier tier(20);
  device.fill(1);
  (void)carry_out(*mover, tier, *tier.store(3, Ids{1, 2, 3}));
  const auto before = device.read_all();
  EXPECT_EQ(carry_out(*mover, tier, tier.load(3, 0, Ids{5, 6, 5})).outcome,
            Outcome::kInvalidBlocks);
  EXPECT_EQ(device.read_all(), before);
}

TEST(Mover, TwoBlocksIntoOneRowIsAnOutcomeTwoFromOneIsFine) {
  Device device(Shape::kBlockFirst, 1, 512, 64);
  const auto mover = mover_of(device, 20);
  device.fill(1);
  const auto outcome = [&](Order order) {
    mover->submit({.order = std::move(order)});
    EXPECT_TRUE(mover->wait_idle(kPatience));
    std::vector<Completion> completions;
    mover->poll(completions);
    return completions.at(0).outcome;
  };
  const std::vector<Piece> overlapping = {{{0, 4}, 1}, {{2, 4}, 1}};  // rows 3 and 3
  EXPECT_EQ(outcome({1, Direction::kStore, {5, 6}, {3, 1}, overlapping}), Outcome::kInvalidBlocks);
  EXPECT_EQ(outcome({2, Direction::kStore, {5, 6}, {3, 2}, overlapping}), Outcome::kDone);
  EXPECT_EQ(outcome({3, Direction::kLoad, {8, 9}, {3, 1}, overlapping}), Outcome::kDone);
  EXPECT_EQ(device.read(8), device.read(5));
  EXPECT_EQ(device.read(9), device.read(5));
}

TEST(Mover, RefusesOrdersThatDoNotFit) {
  Device device(Shape::kBlockFirst, 1, 512, 64);
  const auto mover = mover_of(device, 20);
  const auto refused = [&](Order order) {
    return error_of<InvalidOption>([&] { mover->submit({.order = std::move(order)}); });
  };
  const auto order = [](Ids blocks, Ids slots, std::vector<Piece> pieces) {
    return Order{1, Direction::kStore, std::move(blocks), std::move(slots), std::move(pieces)};
  };
  EXPECT_EQ(refused(order({64}, {0}, {{{0, 1}, 1}})), "block = 64: expected one in [0, 64)");
  EXPECT_EQ(refused(order({-1}, {0}, {{{0, 1}, 1}})), "block = -1: expected one in [0, 64)");
  EXPECT_EQ(refused(order({1}, {1}, {{{0, 1}, 1}})), "slot = 1: expected one in [0, 1)");
  EXPECT_EQ(refused(order({1}, {-2}, {{{0, 1}, 1}})), "slot = -2: expected one in [0, 1)");
  EXPECT_EQ(refused(order({}, {}, {})),
            "job of 0 blocks and 0 slots: expected as many of both, at least one");
  EXPECT_EQ(refused(order({1, 2}, {0}, {{{0, 2}, 2}})),
            "job of 2 blocks and 1 slots: expected as many of both, at least one");
  EXPECT_EQ(refused(order({1, 2}, {0, 1}, {{{0, 2}, 1}})), "pieces for 1 blocks: expected 2");
  EXPECT_EQ(refused(order({1}, {0}, {{{20, 1}, 1}})),
            "piece of 1 blocks in rows 20 + 1: expected one or more blocks that are left, and "
            "rows of 20");
  const Row most = std::numeric_limits<Row>::max();
  for (const Piece& piece : {Piece{{0, 21}, 1}, Piece{{-1, 1}, 1}, Piece{{0, 1}, 2},
                             Piece{{0, 1}, 0}, Piece{{0, 1}, -1}, Piece{{most, most}, 1}}) {
    EXPECT_FALSE(refused(order({1}, {0}, {piece})).empty());
  }
  EXPECT_FALSE(error_of<InvalidOption>([&] {
                 mover->submit({.order = order({1}, {0}, {{{0, 1}, 1}}),
                                .deadline = std::numeric_limits<double>::quiet_NaN()});
               }).empty());
  Order unnamed = order({1}, {0}, {{{0, 1}, 1}});
  unnamed.job = kNoJob;
  EXPECT_EQ(refused(unnamed), "job = 0: expected a number in [1, 9007199254740992]");
}

TEST(Mover, RefusesAnImpossibleHost) {
  const Device device(Shape::kBlockFirst, 1, 512, 64);
  EXPECT_FALSE(error_of<InvalidOption>([&] { mover_of(device, 0); }).empty());
  EXPECT_FALSE(error_of<InvalidOption>([&] { mover_of(device, Row{1} << 60); }).empty());
  EXPECT_FALSE(error_of<OutOfHostMemory>([&] { mover_of(device, Row{1} << 44); }).empty());
}

class Damage : public ::testing::TestWithParam<bool> {};  // device readable?

TEST_P(Damage, IsSeenByTheChecksum) {
  Device device(Shape::kLayerFirst, 3, 700, 64);
  Mover mover(device.layout(), std::make_unique<FrailBackend>(0, GetParam()),
              {.host_rows = 20, .checksums = true}, [] { return 0.0; });
  HostTier tier(20);
  device.fill(1);
  const Ids blocks = {5, 6, 7, 20, 21};
  ASSERT_EQ(carry_out(mover, tier, *tier.store(3, blocks)).outcome, Outcome::kDone);
  ASSERT_EQ(carry_out(mover, tier, tier.load(3, 0, blocks)).outcome, Outcome::kDone);
  auto* host = reinterpret_cast<std::byte*>(mover.host().base());
  host[4 * 700 + 699] ^= std::byte{1};  // first region, last slot, last byte
  ASSERT_EQ(carry_out(mover, tier, tier.load(3, 0, Ids{1, 2, 3, 4})).outcome, Outcome::kDone);
  EXPECT_EQ(carry_out(mover, tier, tier.load(3, 0, blocks)).outcome, Outcome::kChecksumMismatch);
  EXPECT_EQ(tier.rows(3), 0);
}

INSTANTIATE_TEST_SUITE_P(DeviceReadable, Damage, ::testing::Bool());

TEST(Mover, WithoutChecksumsDamageGoesUnseen) {
  Device device(Shape::kLayerFirst, 1, 700, 64);
  const auto mover = mover_of(device, 20, false);
  HostTier tier(20);
  device.fill(1);
  (void)carry_out(*mover, tier, *tier.store(3, Ids{5}));
  *reinterpret_cast<std::byte*>(mover->host().base()) ^= std::byte{1};
  EXPECT_EQ(carry_out(*mover, tier, tier.load(3, 0, Ids{6})).outcome, Outcome::kDone);
  EXPECT_NE(device.read(5), device.read(6));
}

TEST(Mover, AFailedCopyIsAnOutcomeAndTheNextJobRuns) {
  Device device(Shape::kPaddedLayers, 3, 700, 64);
  Mover mover(device.layout(), std::make_unique<FrailBackend>(2, true), {.host_rows = 20},
              [] { return 0.0; });
  HostTier tier(20);
  device.fill(1);
  const Ids blocks = {5, 6, 7, 20, 21};
  EXPECT_EQ(carry_out(mover, tier, *tier.store(3, blocks)).outcome, Outcome::kCopyFailed);
  EXPECT_EQ(tier.free_rows(), 20);
  EXPECT_EQ(carry_out(mover, tier, *tier.store(3, blocks)).outcome, Outcome::kDone);
  EXPECT_EQ(carry_out(mover, tier, tier.load(3, 0, Ids{30, 31, 32, 33, 34})).outcome,
            Outcome::kDone);
  EXPECT_EQ(device.read(34), device.read(21));
}

TEST(Mover, RowsBeyondFourGigabytesAreReached) {
  // 40 rows of 128 MiB would be 5 GiB; the device has two blocks, and only a thin host is touched,
  // so addresses are checked through the planner instead of memory.
  constexpr Bytes kPage = 128 << 20;
  const Layout layout({{Address{1} << 40, kPage, kPage}}, 64);
  Planner planner(layout);
  Transfer transfer({.order = {1, Direction::kLoad, {63}, {39}, {{{2, 40}, 1}}}}, kNoMark, 1, 0);
  CpuBackend backend(1);
  transfer.plan(planner, {Address{1} << 41, 50, nullptr}, {}, backend);
  std::vector<Move> memory;
  const auto slice_of = [&](Bytes bytes) {
    const std::span<const Move> slice = transfer.next_slice({bytes, 10}, memory);
    return std::vector<Move>(slice.begin(), slice.end());
  };
  const Address host = (Address{1} << 41) + 41 * static_cast<Address>(kPage);
  const Address target = (Address{1} << 40) + 63 * static_cast<Address>(kPage);
  EXPECT_EQ(slice_of(64 << 20), (std::vector<Move>{{host, target, 64 << 20}}));
  EXPECT_EQ(slice_of(1 << 30),
            (std::vector<Move>{{host + (64 << 20), target + (64 << 20), 64 << 20}}));
  EXPECT_TRUE(transfer.all_handed_out());
}

}  // namespace
}  // namespace lamps::swap
