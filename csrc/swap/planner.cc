// SPDX-License-Identifier: Apache-2.0
#include "swap/planner.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "lamps/errors.h"

namespace lamps::swap {
namespace {

void require_pairs(std::size_t blocks, std::size_t slots) {
  if (blocks == slots) return;
  throw InvalidOption("slots has " + std::to_string(slots) + " entries: expected " +
                      std::to_string(blocks) + ", one per block");
}

}  // namespace

const char* to_string(Path path) {
  constexpr const char* kNames[kPaths] = {"direct", "batch", "zero-copy", "bulk", "staged"};
  return kNames[static_cast<int>(path)];
}

const char* to_string(Direction direction) {
  return direction == Direction::kStore ? "store" : "load";
}

Planner::Planner(const Layout& layout)
    : layout_(layout), seen_(static_cast<std::size_t>(layout.blocks()) + 2) {}

// What seen_ has of a block that this call copies to or from `slot`. One below 0, or behind the
// last of all, is nobody's: it has the highest bit.
std::uint64_t Planner::pair(std::int64_t slot) const {
  return std::uint64_t{call_} << 32 | static_cast<std::uint32_t>(slot);
}

bool Planner::note_pairs(std::span<const BlockId> blocks, std::span<const BlockId> slots) {
  if (++call_ == 0) {  // wrapped: entries of four thousand million calls ago would look current
    std::fill(seen_.begin(), seen_.end(), 0);
    call_ = 1;
  }
  const auto limit = static_cast<std::uint32_t>(layout_.blocks());
  bool unique = true;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto block = static_cast<std::uint32_t>(blocks[i]);  // a negative one becomes huge
    if (block >= limit) {
      throw InvalidOption("block = " + std::to_string(blocks[i]) + ": expected one in [0, " +
                          std::to_string(limit) + ")");
    }
    std::uint64_t& seen = seen_[block + std::size_t{1}];
    unique &= seen >> 32 != call_;
    seen = pair(slots[i]);
  }
  return unique;
}

bool Planner::find_runs(std::span<const BlockId> blocks, std::span<const BlockId> slots,
                        std::vector<BlockRun>& runs) {
  require_pairs(blocks.size(), slots.size());
  if (!note_pairs(blocks, slots)) return false;
  runs.resize(blocks.size());  // the most there can be
  BlockRun* next = runs.data();
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::int64_t slot = slots[i];
    const std::uint64_t* seen = &seen_[static_cast<std::size_t>(blocks[i]) + 1];
    if (seen[-1] == pair(slot - 1)) continue;  // inside a run that starts lower
    BlockId count = 1;
    while (seen[count] == pair(slot + count)) ++count;
    *next++ = {blocks[i], slots[i], count};
  }
  runs.resize(static_cast<std::size_t>(next - runs.data()));
  return true;
}

void assign_slots(std::span<const BlockId> blocks, std::vector<BlockId>& slots) {
  slots.resize(blocks.size());
  std::iota(slots.begin(), slots.end(), 0);
  for (std::size_t begin = 0; begin < blocks.size();) {
    std::size_t end = begin + 1;
    while (end < blocks.size() && blocks[end] == blocks[end - 1] - 1) ++end;
    std::reverse(slots.begin() + static_cast<std::ptrdiff_t>(begin),
                 slots.begin() + static_cast<std::ptrdiff_t>(end));
    begin = end;
  }
}

void match_blocks(std::span<const BlockId> slots, std::span<BlockId> blocks) {
  require_pairs(blocks.size(), slots.size());
  std::vector<std::size_t> order(slots.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return slots[a] < slots[b]; });
  std::vector<BlockId> sorted(blocks.begin(), blocks.end());
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < order.size(); ++i) blocks[order[i]] = sorted[i];
}

Path choose_path(const Calibration& calibration, Direction direction, std::int64_t moves,
                 Bytes bytes) {
  const bool store = direction == Direction::kStore;
  if (moves <= calibration.direct_moves) return Path::kDirect;
  const Bytes average = bytes / moves;
  if (average >= calibration.direct_min) return Path::kDirect;
  if (average >= (store ? calibration.store_batch_min : calibration.load_batch_min)) {
    return Path::kBatch;
  }
  return store ? calibration.small_store : calibration.small_load;
}

}  // namespace lamps::swap
