// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "expect_error.h"
#include "swap/calibrate.h"
#include "swap/errors.h"

namespace lamps::swap {
namespace {

using lamps::testing::error_of;

// Copies bytes, and takes as long as a modelled device: seconds per copy, and per byte.
class ModelledDevice final : public Backend {
 public:
  struct Cost {
    double per_move = 0, per_byte = 1e-11;
    bool garbles = false, absent = false, fails = false;
  };
  Cost cost[2][kPaths];
  Seconds now = 0;
  int disturbed = 0;    // so many slices of 4 KiB pages take a second longer
  Address highest = 0;  // end of all targets

  Cost& at(Direction direction, Path path) {
    return cost[static_cast<int>(direction)][static_cast<int>(path)];
  }
  void attach(Address, Bytes) override {}
  Mark mark(std::uint64_t) override { return kNoMark; }
  void release(Mark) override {}
  [[nodiscard]] Path usable(Path path, Direction direction) const override {
    return cost[static_cast<int>(direction)][static_cast<int>(path)].absent ? Path::kDirect : path;
  }
  [[nodiscard]] SliceLimit slice_limit() const override { return {1 << 20, 100}; }
  Ticket start(const Slice& slice) override {
    const Cost& cost = at(slice.direction, slice.path);
    Bytes bytes = 0;
    for (const Move& move : slice.moves) {
      auto* target = reinterpret_cast<char*>(move.target);
      std::memcpy(target, reinterpret_cast<const void*>(move.source), move.bytes);
      if (cost.garbles) target[move.bytes - 1] ^= 1;
      now += cost.per_move + cost.per_byte * static_cast<double>(move.bytes);
      bytes += static_cast<Bytes>(move.bytes);
      highest = std::max(highest, move.target + move.bytes);
    }
    if (disturbed > 0 && slice.moves[0].bytes == 4096) --disturbed, now += 1.0;
    EXPECT_LE(bytes, 1 << 20);
    EXPECT_LE(slice.moves.size(), 100U);
    return cost.fails;
  }
  SliceState state(Ticket failed) override {
    return failed != 0 ? SliceState::kFailed : SliceState::kDone;
  }
  [[nodiscard]] bool synchronous() const override { return true; }
  [[nodiscard]] bool device_readable() const override { return true; }
};

class Calibrate : public ::testing::Test {
 protected:
  Calibrate() : device_(4 << 20), host_(4 << 20) {
    for (const Direction direction : {Direction::kStore, Direction::kLoad}) {
      // Equal at 1e-11 s/byte; calls cost 2 us, descriptors 0.5 us, kernels lose a fifth.
      model_.at(direction, Path::kDirect).per_move = 2e-6;
      model_.at(direction, Path::kBatch).per_move = 0.5e-6;
      model_.at(direction, Path::kStaged).per_byte = 1.25e-11;
      model_.at(direction, Path::kZeroCopy).per_byte = 1.20e-11;
      model_.at(direction, Path::kBulk).per_byte = 1.15e-11;
    }
  }
  Measured run() {
    const Scratch scratch{reinterpret_cast<Address>(device_.data()),
                          reinterpret_cast<Address>(host_.data()),
                          static_cast<Bytes>(host_.size())};
    return calibrate(model_, scratch, [this] { return model_.now; });
  }

  ModelledDevice model_;
  std::vector<char> device_, host_;
};

TEST_F(Calibrate, FindsWhereThePathsCross) {
  const Calibration found = run().calibration;
  EXPECT_EQ(found.small_load, Path::kBulk);
  EXPECT_EQ(found.small_store, Path::kBulk);
  // Batch: 0.5e-6 + 1e-11 n <= 1.15e-11 n / 0.95 from n = 238 KB; direct against batch, 1.5e-6 s
  // more, within 5 % from n = 2.7 MB: beyond the largest page.
  EXPECT_EQ(found.load_batch_min, 256 << 10);
  EXPECT_EQ(found.store_batch_min, 256 << 10);
  EXPECT_EQ(found.direct_min, 2 << 20);
}

TEST_F(Calibrate, RatesAreThoseOfTheDevice) {
  const Measured measured = run();
  ASSERT_EQ(measured.rates.size(), 18U);
  EXPECT_EQ(measured.rates[0].direction, Direction::kStore);
  EXPECT_EQ(measured.rates[0].page, 4 << 10);
  EXPECT_NEAR(measured.rates[0].per_path[static_cast<int>(Path::kDirect)], 4096 / (2e-6 + 4096e-11),
              1e6);
  EXPECT_EQ(measured.rates[17].direction, Direction::kLoad);
  EXPECT_EQ(measured.rates[17].page, 1 << 20);
}

TEST_F(Calibrate, ADisturbanceIsForgotten) {
  const Rate quiet = run().rates[0];
  model_.disturbed = 40;
  const Rate disturbed = run().rates[0];
  for (std::size_t path = 0; path < kPaths; ++path) {
    EXPECT_NEAR(disturbed.per_path[path] / quiet.per_path[path], 1, 1e-6);
  }
}

TEST_F(Calibrate, TrialsGoThroughAllOfTheMemory) {
  for (auto& direction : model_.cost) {
    for (int path = 1; path < kPaths; ++path) direction[path].absent = true;
  }
  device_.resize(40 << 20);
  host_.resize(40 << 20);
  (void)run();
  const auto end = [](std::vector<char>& memory) {
    return reinterpret_cast<Address>(memory.data() + (32 << 20));  // two whole trials
  };
  EXPECT_EQ(model_.highest, std::max(end(device_), end(host_)));
}

TEST_F(Calibrate, RoundsEndWithTheTime) {
  const auto time_of = [&](double per_byte) {
    for (auto& direction : model_.cost) {
      for (ModelledDevice::Cost& cost : direction) cost.per_byte = per_byte;
    }
    const Seconds begin = model_.now;
    (void)run();
    return model_.now - begin;
  };
  // 18 sizes and directions of 5 paths of 4 MiB: 0.38 s at 1 GB/s; and the proofs, 20 of 4 MiB.
  const Seconds round = 90 * 4.2e6, proofs = 20 * 4.2e6;
  EXPECT_NEAR(time_of(1e-9), (2 * round + proofs) * 1e-9, 0.1);
  EXPECT_NEAR(time_of(3e-10), (3 * round + proofs) * 3e-10, 0.1);
  EXPECT_LT(time_of(1e-11), (5 * round + proofs) * 1e-11 + 0.1);
}

TEST_F(Calibrate, TheRateOfAPageIsThatOfItsPath) {
  const Calibration thresholds{.direct_min = 1000, .store_batch_min = 100, .load_batch_min = 10};
  const auto rate = [&](Direction direction, Bytes page) {
    return chosen_rate(thresholds, {direction, page, {1, 2, 3, 4, 0}});
  };
  EXPECT_EQ(rate(Direction::kStore, 1000), 1);
  EXPECT_EQ(rate(Direction::kStore, 100), 2);
  EXPECT_EQ(rate(Direction::kLoad, 99), 2);
  EXPECT_EQ(rate(Direction::kLoad, 9), 3);
  EXPECT_EQ(rate(Direction::kStore, 99), 1) << "staged was not measured: direct stands in for it";
}

TEST_F(Calibrate, APathThatGarblesBytesIsLeftOut) {
  model_.at(Direction::kLoad, Path::kBulk).garbles = true;
  model_.at(Direction::kStore, Path::kBulk).fails = true;
  model_.at(Direction::kStore, Path::kZeroCopy).absent = true;
  const Measured measured = run();
  EXPECT_EQ(measured.calibration.small_load, Path::kZeroCopy);
  EXPECT_EQ(measured.calibration.small_store, Path::kStaged);
  EXPECT_EQ(measured.rates[0].per_path[static_cast<int>(Path::kBulk)], 0);
}

TEST_F(Calibrate, WithoutKernelsBatchesServeAllSizes) {
  for (const Direction direction : {Direction::kStore, Direction::kLoad}) {
    for (const Path path : {Path::kStaged, Path::kZeroCopy, Path::kBulk}) {
      model_.at(direction, path).absent = true;
    }
  }
  const Calibration found = run().calibration;
  EXPECT_EQ(found.small_load, Path::kBatch);
  EXPECT_EQ(found.small_store, Path::kBatch);
  EXPECT_EQ(found.load_batch_min, 4 << 10);
}

TEST_F(Calibrate, RefusesWhatCannotBeMeasured) {
  model_.at(Direction::kLoad, Path::kDirect).garbles = true;
  EXPECT_EQ(error_of<DeviceError>([&] { (void)run(); }),
            "calibration: direct copies, store, do not bring back what was written");
  host_.resize(1000);
  EXPECT_EQ(error_of<InvalidOption>([&] { (void)run(); }),
            "scratch bytes = 1000: expected a number in [1048576, 1099511627776]");
}

}  // namespace
}  // namespace lamps::swap
