// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <string>

#include "swap/cpu_kernels.h"

namespace lamps::swap {
namespace {

using Bytes8 = std::vector<std::uint8_t>;

Bytes8 random_bytes(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes8 bytes(size);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

Move move_of(const Bytes8& source, std::size_t from, Bytes8& target, std::size_t to,
             std::size_t bytes) {
  return {reinterpret_cast<Address>(source.data() + from),
          reinterpret_cast<Address>(target.data() + to), bytes};
}

class EveryCpuKernel : public ::testing::TestWithParam<std::size_t> {
 protected:
  const CpuKernels& kernels() const { return all_cpu_kernels()[GetParam()]; }
};

TEST_P(EveryCpuKernel, CopiesWhatMemcpyCopiesAndNothingElse) {
  const Bytes8 source = random_bytes(200'000, 1);
  std::mt19937 random(2);
  for (int round = 0; round < 300; ++round) {
    Bytes8 target(400'000, 0x5a), expected = target;
    std::vector<Move> moves;
    std::size_t to = random() % 100;
    for (int i = 0; i < 12; ++i) {
      constexpr std::size_t kSizes[] = {0, 1, 63, 64, 127, 128, 656, 4096, 8192, 20'480, 30'000};
      const std::size_t bytes = kSizes[random() % std::size(kSizes)] + random() % 3;
      const std::size_t from = random() % (source.size() - bytes);
      moves.push_back(move_of(source, from, target, to, bytes));
      std::memcpy(expected.data() + to, source.data() + from, bytes);
      to += bytes + random() % 70;
    }
    kernels().copy(moves.data(), moves.size());
    ASSERT_EQ(target, expected) << "round " << round;
  }
  kernels().copy(nullptr, 0);
}

TEST_P(EveryCpuKernel, ChecksumIsThatOfThePortableKernel) {
  const Bytes8 data = random_bytes(5000, 3);
  for (const std::size_t size : {0, 1, 7, 8, 63, 64, 65, 128, 1000, 4096, 5000}) {
    for (const std::uint64_t seed : {0, 1, 77}) {
      EXPECT_EQ(kernels().checksum(data.data(), size, seed),
                all_cpu_kernels().back().checksum(data.data(), size, seed));
    }
  }
}

TEST_P(EveryCpuKernel, ChecksumSeesEveryBit) {
  Bytes8 data(200, 0);  // zeros: nothing but the flipped bit tells the values apart
  std::set<std::uint64_t> sums = {kernels().checksum(data.data(), data.size(), 0)};
  for (std::size_t bit = 0; bit < data.size() * 8; ++bit) {
    data[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
    sums.insert(kernels().checksum(data.data(), data.size(), 0));
    data[bit / 8] = 0;
  }
  EXPECT_EQ(sums.size(), data.size() * 8 + 1);
}

TEST_P(EveryCpuKernel, ChecksumSeesOrderLengthAndSeed) {
  Bytes8 data = random_bytes(4096, 4);
  const auto sum = [&](std::size_t size, std::uint64_t seed) {
    return kernels().checksum(data.data(), size, seed);
  };
  const std::uint64_t before = sum(4096, 0);
  EXPECT_NE(before, sum(4095, 0));
  EXPECT_NE(before, sum(4096, 1));
  std::rotate(data.begin(), data.begin() + 64, data.end());  // the same stripes, another order
  EXPECT_NE(before, sum(4096, 0));
  std::rotate(data.begin(), data.end() - 64, data.end());
  EXPECT_EQ(before, sum(4096, 0));
  std::swap_ranges(data.begin(), data.begin() + 8, data.begin() + 8);  // words in one stripe
  EXPECT_NE(before, sum(4096, 0));
  Bytes8 zeros(4096, 0);
  EXPECT_NE(kernels().checksum(zeros.data(), 64, 0), kernels().checksum(zeros.data(), 128, 0));
}

INSTANTIATE_TEST_SUITE_P(All, EveryCpuKernel,
                         ::testing::Range(std::size_t{0}, all_cpu_kernels().size()),
                         [](const auto& info) { return all_cpu_kernels()[info.param].name; });

TEST(CpuKernels, TheLastIsPortableAndTheFirstIsUsed) {
  EXPECT_STREQ(all_cpu_kernels().back().name, "portable");
  EXPECT_STREQ(all_cpu_kernels().front().name, cpu_kernels().name);
}

TEST(BlockChecksum, CoversAllPagesOfTheBlockAndNoOther) {
  Bytes8 memory = random_bytes(2 * 10 * 48, 5);
  const auto base = reinterpret_cast<Address>(memory.data());
  const std::vector<Region> regions = {{base, 48, 48}, {base + 480, 48, 40}};
  const auto sum = [&] { return block_checksum(cpu_kernels(), regions, 3); };
  const std::uint64_t before = sum();
  const auto change = [&](std::size_t at) {
    memory[at] ^= 1;
    const bool seen = sum() != before;
    memory[at] ^= 1;
    return seen;
  };
  EXPECT_TRUE(change(3 * 48));
  EXPECT_TRUE(change(3 * 48 + 47));
  EXPECT_FALSE(change(4 * 48));
  EXPECT_TRUE(change(480 + 3 * 48 + 39));
  EXPECT_FALSE(change(480 + 3 * 48 + 40));  // padding
  std::swap_ranges(memory.begin() + 144, memory.begin() + 184, memory.begin() + 480 + 144);
  EXPECT_NE(sum(), before);  // pages exchanged between regions
}

}  // namespace
}  // namespace lamps::swap
