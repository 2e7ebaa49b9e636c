// SPDX-License-Identifier: Apache-2.0
// The CUDA backend on a runtime made of threads: order, failures and what it touches, which a fast
// device would show rarely. That bytes arrive is tested there too (test_swap_cuda_backend.cc).
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <thread>
#include <vector>

#include "cuda_on_cpu/runtime.h"
#include "expect_error.h"
#include "swap/cuda_backend.h"
#include "swap/errors.h"

namespace lamps::swap {
namespace {

using lamps::testing::error_of;
using namespace std::chrono_literals;

constexpr std::size_t kPage = 4096, kPages = 16, kBytes = kPage * kPages;

class CudaOnCpu : public ::testing::Test {
 protected:
  void SetUp() override {
    backend_ = make_cuda_backend({.staging_bytes = 64 << 10});
    ASSERT_EQ(cudaMalloc(&device_, kBytes), cudaSuccess);
    host_.resize(kBytes);
    backend_->attach(reinterpret_cast<Address>(host_.data()), kBytes);
    std::fill_n(device(), kBytes, std::byte{1});
    ASSERT_EQ(cudaStreamCreateWithPriority(&engine_, 0, 0), cudaSuccess);
  }
  void TearDown() override {
    cuda_on_cpu::slow_down_copies(0ms);
    cudaStreamDestroy(engine_);
    backend_.reset();
    cudaFree(device_);
    EXPECT_FALSE(cuda_on_cpu::take_fault());
  }

  std::byte* device() { return static_cast<std::byte*>(device_); }
  // Every second page to the host, so that no two make one copy.
  std::vector<Move> moves() {
    std::vector<Move> made;
    for (std::size_t at = 0; at < kBytes; at += 2 * kPage) {
      made.push_back({reinterpret_cast<Address>(device() + at),
                      reinterpret_cast<Address>(host_.data() + at), kPage});
    }
    return made;
  }
  // What the slice comes to.
  SliceState finish(Ticket ticket) {
    while (true) {
      const SliceState now = backend_->state(ticket);
      if (now == SliceState::kDone || now == SliceState::kFailed) return now;
      std::this_thread::yield();
    }
  }
  bool stored(std::byte value) {
    for (std::size_t page = 0; page < kPages; page += 2) {
      const auto from = host_.begin() + static_cast<std::ptrdiff_t>(page * kPage);
      if (std::count(from, from + kPage, value) != static_cast<std::ptrdiff_t>(kPage)) return false;
    }
    return true;
  }
  SliceState store(std::byte value, Path path) {
    std::fill_n(device(), kBytes, value);
    const std::vector<Move> slice = moves();
    return finish(backend_->start({Direction::kStore, path, slice}));
  }

  std::unique_ptr<Backend> backend_;
  void* device_ = nullptr;
  std::vector<std::byte> host_;
  cudaStream_t engine_ = nullptr;
};

class CudaOnCpuPaths : public CudaOnCpu, public ::testing::WithParamInterface<Path> {};

TEST_P(CudaOnCpuPaths, AStoreReadsWhatTheEngineHasWrittenUpToItsMark) {
  const std::vector<Move> slice = moves();
  std::promise<void> computed;
  cuda_on_cpu::enqueue(engine_, [&] {
    computed.get_future().wait();
    std::fill_n(device(), kBytes, std::byte{2});
  });
  const Mark mark = backend_->mark(reinterpret_cast<std::uint64_t>(engine_));
  const Ticket ticket = backend_->start({Direction::kStore, GetParam(), slice, mark});
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(backend_->state(ticket), SliceState::kRunning);
  computed.set_value();
  EXPECT_EQ(finish(ticket), SliceState::kDone);
  EXPECT_TRUE(stored(std::byte{2}));
  backend_->release(mark);
  EXPECT_EQ(backend_->mark(reinterpret_cast<std::uint64_t>(engine_)), mark);
}

TEST_P(CudaOnCpuPaths, TwoSlicesMayBeUnderWay) {
  const std::vector<Move> all = moves();
  const std::span first = std::span(all).first(3), second = std::span(all).subspan(3);
  for (int round = 0; round < 20; ++round) {
    const auto value = static_cast<std::byte>(round + 3);
    std::fill_n(device(), kBytes, value);
    const Ticket one = backend_->start({Direction::kStore, GetParam(), first});
    const Ticket other = backend_->start({Direction::kStore, GetParam(), second});
    EXPECT_EQ(finish(one), SliceState::kDone);
    EXPECT_EQ(finish(other), SliceState::kDone);
    EXPECT_TRUE(stored(value));
  }
}

TEST_P(CudaOnCpuPaths, WhatCannotBeStartedFailsOnceNothingRunsAnyMore) {
  cuda_on_cpu::slow_down_copies(5ms);
  if (GetParam() == Path::kDirect) {
    cuda_on_cpu::fail("cudaMemcpyAsync", 3);
  } else {
    cuda_on_cpu::fail("cudaEventRecord");
  }
  const std::vector<Move> slice = moves();
  const Ticket ticket = backend_->start({Direction::kStore, GetParam(), slice});
  EXPECT_EQ(backend_->state(ticket), SliceState::kRunning);  // what was started before the failure
  EXPECT_EQ(finish(ticket), SliceState::kFailed);
  cuda_on_cpu::slow_down_copies(0ms);
  EXPECT_EQ(store(std::byte{4}, GetParam()), SliceState::kDone);
  EXPECT_TRUE(stored(std::byte{4}));
}

TEST_P(CudaOnCpuPaths, AFaultOfTheDeviceFailsTheSlice) {
  std::vector<Move> slice = moves();
  slice.back().source = reinterpret_cast<Address>(device() + kBytes - 8);
  const Ticket ticket = backend_->start({Direction::kStore, GetParam(), slice});
  EXPECT_EQ(finish(ticket), SliceState::kFailed);
  EXPECT_TRUE(cuda_on_cpu::take_fault());
}

std::string name_of(const ::testing::TestParamInfo<Path>& info) { return to_string(info.param); }

INSTANTIATE_TEST_SUITE_P(Paths, CudaOnCpuPaths,
                         ::testing::Values(Path::kDirect, Path::kBatch, Path::kStaged), name_of);

TEST_F(CudaOnCpu, AStagedStoreFreesItsSourceBeforeTheHostHasIt) {
  cuda_on_cpu::slow_down_copies(10ms);
  const std::vector<Move> slice = moves();
  const Ticket ticket = backend_->start({Direction::kStore, Path::kStaged, slice});
  SliceState state = SliceState::kRunning;
  while (state == SliceState::kRunning) state = backend_->state(ticket);
  EXPECT_EQ(state, SliceState::kSourceFree);
  std::fill_n(device(), kBytes, std::byte{9});
  EXPECT_EQ(finish(ticket), SliceState::kDone);
  EXPECT_TRUE(stored(std::byte{1}));
}

TEST_F(CudaOnCpu, AKernelThatCannotBeLaunchedFails) {
  cuda_on_cpu::fail("cudaLaunchKernel");
  EXPECT_EQ(store(std::byte{5}, Path::kStaged), SliceState::kFailed);
  EXPECT_EQ(store(std::byte{6}, Path::kStaged), SliceState::kDone);
  EXPECT_TRUE(stored(std::byte{6}));
}

TEST(CudaOnCpuMemory, RefusedIsAnErrorThatSaysHowMuch) {
  cuda_on_cpu::fail("cudaMalloc");
  EXPECT_EQ(error_of<DeviceError>([] { (void)make_cuda_backend({}); }),
            "cudaMalloc: out of memory");
  const auto backend = make_cuda_backend({});
  std::vector<std::byte> host(kPage);
  cuda_on_cpu::fail("cudaHostRegister");
  const auto attach = [&] { backend->attach(reinterpret_cast<Address>(host.data()), kPage); };
  EXPECT_EQ(error_of<OutOfHostMemory>(attach), "locking 4096 bytes of host memory: out of memory");
}

}  // namespace
}  // namespace lamps::swap
