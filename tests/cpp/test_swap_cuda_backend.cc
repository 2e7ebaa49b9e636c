// SPDX-License-Identifier: Apache-2.0
// The CUDA backend against the CPU's view of the same bytes. Without a device these skip and say
// why; what remains is that asking for one is a clear error.
#include <gtest/gtest.h>

#include "expect_error.h"
#include "swap/cuda_backend.h"
#include "swap/errors.h"
#include "swap/mover.h"
#include "swap_device.h"

#if defined(LAMPS_HAVE_CUDA)
#include <cuda_runtime_api.h>
#endif

namespace lamps::swap {
namespace {

using lamps::testing::error_of;

TEST(CudaBackend, SaysWhyThereIsNone) {
  const std::string reason = why_no_cuda();
  if (reason.empty()) GTEST_SKIP() << "there is a device";
  EXPECT_EQ(error_of<DeviceError>([] { (void)make_cuda_backend({}); }), "CUDA backend: " + reason);
}

#if defined(LAMPS_HAVE_CUDA)

using testing::random_blocks;
using Ids = std::vector<BlockId>;

TEST(CudaBackend, RefusesOptionsOutOfRange) {
  const auto refused = [](const CudaOptions& options) {
    return error_of<InvalidOption>([&] { (void)make_cuda_backend(options); });
  };
  EXPECT_EQ(refused({.staging_bytes = 1}),
            "staging_bytes = 1: expected a number in [65536, 1073741824]");
  EXPECT_EQ(refused({.link_ctas = 0}), "link_ctas = 0: expected a number in [1, 1024]");
  EXPECT_EQ(refused({.gather_ctas = 0}), "gather_ctas = 0: expected a number in [1, 1024]");
}

struct World {
  Path path;
  Bytes page;
  bool layer_first;
};

// Device memory of 3 layers, and what should be in it.
class CudaWorld : public ::testing::TestWithParam<World> {
 protected:
  static constexpr BlockId kBlocks = 200;
  static constexpr int kLayers = 3;

  void SetUp() override {
    if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
    const auto [path, page, layer_first] = GetParam();
    bytes_.resize(static_cast<std::size_t>(page * kLayers * kBlocks));
    ASSERT_EQ(cudaMalloc(&memory_, bytes_.size()), cudaSuccess);
    const auto base = reinterpret_cast<Address>(memory_);
    std::vector<Region> regions;
    for (int layer = 0; layer < kLayers; ++layer) {
      regions.push_back(
          layer_first ? Region{base + static_cast<Address>(page * kBlocks * layer), page, page}
                      : Region{base + static_cast<Address>(page * layer), page * kLayers, page});
    }
    layout_.emplace(regions, kBlocks);
    // Whatever the sizes: always the path under test.
    MoverOptions options{.host_rows = 150, .checksums = true};
    options.calibration.direct_min = path == Path::kDirect ? 1 : Bytes{1} << 50;
    options.calibration.direct_moves = 0;
    options.calibration.store_batch_min = path == Path::kBatch ? 1 : Bytes{1} << 50;
    options.calibration.load_batch_min = options.calibration.store_batch_min;
    options.calibration.small_store = options.calibration.small_load = path;
    mover_ = std::make_unique<Mover>(*layout_, make_cuda_backend({.staging_bytes = 64 << 10}),
                                     options, [] { return 0.0; });
  }
  void TearDown() override {
    mover_.reset();
    cudaFree(memory_);
  }

  void write_all(unsigned seed) {
    std::uint32_t state = 2 * seed + 1;
    for (std::byte& byte : bytes_) byte = static_cast<std::byte>((state *= 747796405U) >> 24);
    ASSERT_EQ(cudaMemcpy(memory_, bytes_.data(), bytes_.size(), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  void read_all() {
    ASSERT_EQ(cudaMemcpy(bytes_.data(), memory_, bytes_.size(), cudaMemcpyDeviceToHost),
              cudaSuccess);
  }
  std::vector<std::byte> block(BlockId id) const {
    std::vector<std::byte> out;
    for (const Region& region : layout_->regions()) {
      const auto at = static_cast<std::ptrdiff_t>(region.base - reinterpret_cast<Address>(memory_) +
                                                  static_cast<Address>(region.stride) *
                                                      static_cast<Address>(id));
      out.insert(out.end(), bytes_.begin() + at, bytes_.begin() + at + region.page);
    }
    return out;
  }
  Completion carry_out(Order order) {
    const JobId job = order.job;
    mover_->submit({.order = std::move(order), .after_stream = 0});
    EXPECT_TRUE(mover_->wait_idle(60));
    std::vector<Completion> completions;
    mover_->poll(completions);
    EXPECT_FALSE(completions.empty());
    tier_.finished(job, completions.back().outcome);
    return completions.back();
  }

  void* memory_ = nullptr;
  std::vector<std::byte> bytes_;
  std::optional<Layout> layout_;
  std::unique_ptr<Mover> mover_;
  HostTier tier_{150};
};

TEST_P(CudaWorld, WhatComesBackIsWhatWentOut) {
  std::mt19937 random(1);
  for (unsigned round = 0; round < 10; ++round) {
    const Ids from = random_blocks(random, kBlocks, 60, 1 + random() % 12);
    write_all(round);
    std::vector<std::vector<std::byte>> expected;
    for (const BlockId id : from) expected.push_back(block(id));
    const auto session = static_cast<SessionHandle>(round % 4);
    tier_.drop(session);
    ASSERT_EQ(carry_out(*tier_.store(session, from)).outcome, Outcome::kDone);
    write_all(round + 1000);
    std::vector<std::vector<std::byte>> others;
    for (BlockId id = 0; id < kBlocks; ++id) others.push_back(block(id));
    const Ids to = random_blocks(random, kBlocks, 60, 1 + random() % 12);
    ASSERT_EQ(carry_out(tier_.load(session, 0, to)).outcome, Outcome::kDone);
    read_all();
    for (std::size_t i = 0; i < to.size(); ++i) {
      ASSERT_EQ(block(to[i]), expected[i]) << "block " << to[i] << " of round " << round;
      others[static_cast<std::size_t>(to[i])] = expected[i];
    }
    for (BlockId id = 0; id < kBlocks; ++id) {
      ASSERT_EQ(block(id), others[static_cast<std::size_t>(id)]) << "block " << id;
    }
  }
}

std::string name_of(const ::testing::TestParamInfo<World>& info) {
  std::string name = to_string(info.param.path) + std::to_string(info.param.page) +
                     (info.param.layer_first ? "PerLayer" : "PerBlock");
  std::erase(name, '-');  // as in "zero-copy": not allowed in a name
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    Paths, CudaWorld,
    ::testing::Values(World{Path::kDirect, 16 << 10, true}, World{Path::kBatch, 16 << 10, true},
                      World{Path::kZeroCopy, 8 << 10, true}, World{Path::kZeroCopy, 1000, true},
                      World{Path::kZeroCopy, 777, false}, World{Path::kBulk, 8 << 10, true},
                      World{Path::kBulk, 20 << 10, false}, World{Path::kBulk, 1004, true},
                      World{Path::kStaged, 8 << 10, true}, World{Path::kStaged, 24 << 10, false},
                      World{Path::kStaged, 999, true}),
    name_of);

#endif

}  // namespace
}  // namespace lamps::swap
