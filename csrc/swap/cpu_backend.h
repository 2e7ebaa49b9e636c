// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "swap/backend.h"
#include "swap/cpu_kernels.h"
#include "swap/fork_join.h"

namespace lamps::swap {

// "Device" memory is ordinary memory: vLLM's CPU build, tests, and the reference for other
// backends. Copies on the mover's thread and `threads` - 1 more. There are no streams: marks are
// ignored, and whoever submits a store has finished writing the blocks.
class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int threads, const CpuKernels& kernels = cpu_kernels());

  void attach(Address, Bytes) override {}
  Mark mark(std::uint64_t) override { return kNoMark; }
  void release(Mark) override {}
  [[nodiscard]] Path usable(Path, Direction) const override { return Path::kDirect; }
  [[nodiscard]] SliceLimit slice_limit() const override;
  Ticket start(const Slice& slice) override;
  SliceState state(Ticket) override { return SliceState::kDone; }
  [[nodiscard]] bool synchronous() const override { return true; }
  [[nodiscard]] bool device_readable() const override { return true; }

 private:
  const CpuKernels& kernels_;
  ForkJoin team_;
  std::vector<std::vector<Move>> parts_;  // scratch, one per thread
};

// Cuts moves into parts.size() lists of about equal bytes, in order.
void split_evenly(std::span<const Move> moves, std::span<std::vector<Move>> parts);

}  // namespace lamps::swap
