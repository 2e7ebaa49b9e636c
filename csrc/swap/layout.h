// SPDX-License-Identifier: Apache-2.0
// Where the pages of KV blocks lie: on the device in whatever layout the engine has, in host memory
// packed without gaps.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lamps/types.h"

namespace lamps::swap {

using Address = std::uint64_t;  // of device or host memory, in bytes
using BlockId = std::int32_t;   // a KV block of the engine, or a slot of a host extent
using Row = std::int64_t;       // host memory for one block, all of its pages

// One page per block: block b has the bytes [base + b * stride, base + b * stride + page).
// Products are 64 bits wide: a region may span far more than 4 GiB.
struct Region {
  Address base = 0;
  Bytes stride = 0;  // >= page
  Bytes page = 0;    // > 0
  friend bool operator==(const Region&, const Region&) = default;
};

// The device side: every block has one page in each region.
class Layout {
 public:
  // Regions that follow each other inside the block (same stride, next base = base + page) become
  // one, so a block-contiguous cache given layer by layer is still moved as whole blocks. Throws
  // InvalidOption unless 1 <= blocks, and for every region 1 <= page <= stride, base > 0 and the
  // last page ends below 2^63.
  Layout(std::vector<Region> regions, BlockId blocks);

  [[nodiscard]] std::span<const Region> regions() const { return regions_; }
  [[nodiscard]] BlockId blocks() const { return blocks_; }
  [[nodiscard]] Bytes row_bytes() const { return row_bytes_; }  // all pages of one block

  // Regions of a host extent of `rows` rows at `base`: region by region, inside a region slot by
  // slot, so neighbouring blocks stay neighbours whatever the device layout. `out` is replaced.
  void host_regions(Address base, Row rows, std::vector<Region>& out) const;

 private:
  std::vector<Region> regions_;
  BlockId blocks_;
  Bytes row_bytes_ = 0;
};

}  // namespace lamps::swap
