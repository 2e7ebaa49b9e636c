// SPDX-License-Identifier: Apache-2.0
// The copies of a job, made when they are asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "swap/planner.h"

namespace lamps::swap {

struct Move {
  Address source = 0;
  Address target = 0;
  std::uint64_t bytes = 0;
  friend bool operator==(const Move&, const Move&) = default;
};

// At most this much in one slice: as much as an urgent job may have to wait for.
struct SliceLimit {
  Bytes bytes = std::numeric_limits<Bytes>::max();
  std::size_t moves = std::numeric_limits<std::size_t>::max();
};

// Runs in every region of a layout, as copies between the device and host extents. They are made
// slice by slice into memory that is used again: forty layers of them written at once would have
// left the caches by the time they are read.
class Moves {
 public:
  // Forgets everything; from now on between `layout`, which must stay, and the host.
  void reset(const Layout& layout, Direction direction);

  // Behind what was added before: copies between the device and an extent of `rows` rows at
  // `base`, region by region. A run is one copy in regions without gaps, one per block in others.
  void add(std::span<const BlockRun> runs, Address base, Row rows);

  [[nodiscard]] std::size_t count() const { return count_; }  // added, before slices cut any
  [[nodiscard]] bool all_taken() const { return left_ == 0; }

  // The next copies, in order, up to `limit`; one that does not fit whole is cut there. They are
  // in `memory`, which is made larger where needed and never smaller.
  [[nodiscard]] std::span<const Move> take(const SliceLimit& limit, std::vector<Move>& memory);

 private:
  struct Part {                        // what one add() brought
    std::size_t first = 0, count = 0;  // in runs_
    Address base = 0;                  // of the next region to open
    Row rows = 0;
  };
  void open_region();
  void make_offsets(const Part& part, const Region& region);

  const Layout* layout_ = nullptr;
  Direction direction_ = Direction::kStore;
  std::vector<BlockRun> runs_;
  std::vector<Part> parts_;
  std::size_t count_ = 0, left_ = 0;

  // Where taking has come to: copies of `offsets_` from `next_` on, in the region that is open.
  std::size_t part_ = 0, region_ = 0;  // region_: the next to open
  std::size_t next_ = 0;
  std::uint64_t taken_ = 0;  // bytes, of the open region
  Address device_base_ = 0, host_base_ = 0;
  // Copies of a region whose two sides begin at 0. Regions of one shape share them.
  std::vector<Move> offsets_;
  std::vector<std::uint64_t> ends_;  // bytes of the copies up to each, itself included
};

}  // namespace lamps::swap
