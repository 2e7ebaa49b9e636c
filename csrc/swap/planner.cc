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

Move move_of(Direction direction, Address device, Address host, Bytes bytes) {
  const auto size = static_cast<std::uint64_t>(bytes);
  return direction == Direction::kStore ? Move{device, host, size} : Move{host, device, size};
}

Address page_of(const Region& region, BlockId block) {
  return region.base + static_cast<Address>(block) * static_cast<Address>(region.stride);
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
    : layout_(layout), seen_(static_cast<std::size_t>(layout.blocks())) {}

bool Planner::note_positions(std::span<const BlockId> blocks) {
  if (++call_ == 0) {  // wrapped: entries of four thousand million calls ago would look current
    std::fill(seen_.begin(), seen_.end(), Seen{});
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
    unique &= seen_[block].call != call_;
    seen_[block] = {call_, static_cast<std::int32_t>(i)};
  }
  return unique;
}

bool Planner::paired(std::int64_t block, std::int64_t slot, std::span<const BlockId> slots) const {
  if (block < 0 || block >= layout_.blocks()) return false;
  const Seen& seen = seen_[static_cast<std::size_t>(block)];
  return seen.call == call_ && slots[static_cast<std::size_t>(seen.position)] == slot;
}

bool Planner::find_runs(std::span<const BlockId> blocks, std::span<const BlockId> slots,
                        std::vector<BlockRun>& runs) {
  require_pairs(blocks.size(), slots.size());
  runs.clear();
  if (!note_positions(blocks)) return false;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::int64_t block = blocks[i], slot = slots[i];
    if (paired(block - 1, slot - 1, slots)) continue;  // inside a run that starts lower
    BlockId count = 1;
    while (paired(block + count, slot + count, slots)) ++count;
    runs.push_back({blocks[i], slots[i], count});
  }
  return true;
}

void Planner::append_moves(Direction direction, std::span<const BlockRun> runs, Address base,
                           Row rows, std::vector<Move>& moves) {
  layout_.host_regions(base, rows, host_);
  const std::int64_t covered =
      std::accumulate(runs.begin(), runs.end(), std::int64_t{0},
                      [](std::int64_t sum, const BlockRun& run) { return sum + run.count; });
  const std::size_t before = moves.size();
  moves.resize(before + host_.size() * static_cast<std::size_t>(covered));  // the most it can be
  Move* next = moves.data() + before;
  for (std::size_t r = 0; r < host_.size(); ++r) {
    const Region& device = layout_.regions()[r];
    const Region& host = host_[r];
    const bool gapless = device.stride == device.page;
    for (const BlockRun& run : runs) {
      const BlockId copies = gapless ? 1 : run.count;
      const Bytes bytes = gapless ? device.page * run.count : device.page;
      for (BlockId i = 0; i < copies; ++i) {
        *next++ =
            move_of(direction, page_of(device, run.block + i), page_of(host, run.slot + i), bytes);
      }
    }
  }
  moves.resize(static_cast<std::size_t>(next - moves.data()));
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
