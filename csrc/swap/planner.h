// SPDX-License-Identifier: Apache-2.0
// From lists of blocks to the fewest runs, and which way their copies should take.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "swap/layout.h"

namespace lamps::swap {

enum class Direction : std::uint8_t { kStore, kLoad };  // device to host, host to device

// How a copy reaches the other side. A CPU backend has one way and ignores this.
enum class Path : std::uint8_t {
  kDirect,    // copy engine, one call per copy: long runs
  kBatch,     // copy engine, one call for many copies
  kZeroCopy,  // a kernel that reads or writes host memory over the link, through registers
  kBulk,      // the same through shared memory and bulk copies (sm_90 and later)
  kStaged,    // a kernel between pages and device staging, one long copy over the link
};
inline constexpr int kPaths = 5;
[[nodiscard]] const char* to_string(Path path);
[[nodiscard]] const char* to_string(Direction direction);

// Blocks [block, block + count) and slots [slot, slot + count), pairwise.
struct BlockRun {
  BlockId block = 0;
  BlockId slot = 0;
  BlockId count = 0;
  friend bool operator==(const BlockRun&, const BlockRun&) = default;
};

// Pairs of (block, slot) to runs. Keeps scratch memory of 8 bytes per block of the
// layout between calls; one object per thread.
class Planner {
 public:
  explicit Planner(const Layout& layout);  // keeps a copy

  // The fewest runs that cover all pairs (blocks[i], slots[i]), whatever the order of the lists:
  // ascending, descending or shuffled, neighbours on both sides become one run. Linear in the
  // number of pairs. False, with `runs` undefined, if a block occurs twice: copies of one call
  // have no order among themselves. Throws InvalidOption if the lists differ in length or a block
  // is not in [0, layout.blocks()).
  [[nodiscard]] bool find_runs(std::span<const BlockId> blocks, std::span<const BlockId> slots,
                               std::vector<BlockRun>& runs);

  [[nodiscard]] const Layout& layout() const { return layout_; }

 private:
  [[nodiscard]] bool note_pairs(std::span<const BlockId> blocks, std::span<const BlockId> slots);
  [[nodiscard]] std::uint64_t pair(std::int64_t slot) const;

  Layout layout_;
  // pair() of every block's last slot, from 1 on: the first and the last are never set, so that
  // neighbours can be looked up without a look at the range.
  std::vector<std::uint64_t> seen_;
  std::uint32_t call_ = 0;  // of find_runs(), so that nothing has to be cleared
};

// Slots 0 to n - 1 for blocks about to be stored: in the order of the list, but backwards where
// the blocks count downwards, so that those runs are one copy too. `slots` is replaced.
void assign_slots(std::span<const BlockId> blocks, std::vector<BlockId>& slots);

// Reorders `blocks`, of which any may receive any slot, for the fewest copies: the i-th lowest
// slot gets the i-th lowest block. For loads ahead of time, into blocks that are all alike.
// Throws InvalidOption if the lists differ in length.
void match_blocks(std::span<const BlockId> slots, std::span<BlockId> blocks);

// From which average copy size on which path is right. The defaults are published figures of one
// machine; calibrate() measures the machine at hand.
struct Calibration {
  Bytes direct_min = 256 << 10;      // average bytes per copy
  std::int64_t direct_moves = 16;    // so few copies are direct whatever their size
  Bytes store_batch_min = 32 << 10;  // average bytes per copy, below it `small_store`
  Bytes load_batch_min = 32 << 10;   // the link collapses under small batched loads
  Path small_store = Path::kStaged;  // blocks are free as soon as they are gathered
  Path small_load = Path::kZeroCopy;
};

// The path for `moves` copies of `bytes` in all.
[[nodiscard]] Path choose_path(const Calibration& calibration, Direction direction,
                               std::int64_t moves, Bytes bytes);

}  // namespace lamps::swap
