// SPDX-License-Identifier: Apache-2.0
#include "swap/layout.h"

#include <limits>
#include <string>
#include <utility>

#include "lamps/errors.h"

namespace lamps::swap {
namespace {

constexpr std::int64_t kHighest = std::numeric_limits<std::int64_t>::max();

void require(bool fits, std::size_t region, const char* field, std::int64_t value,
             const std::string& expected) {
  if (fits) return;
  throw InvalidOption("region " + std::to_string(region) + " " + field + " = " +
                      std::to_string(value) + ": expected " + expected);
}

void validate(const Region& region, std::size_t index, BlockId blocks) {
  require(region.page >= 1, index, "page", region.page, "1 byte or more");
  require(region.stride >= region.page, index, "stride", region.stride,
          "at least the page, " + std::to_string(region.page));
  const auto base = static_cast<std::int64_t>(region.base);
  require(base > 0, index, "base", base, "an address in [1, 2^63)");
  const bool ends = region.stride <= (kHighest - base) / blocks;
  require(ends, index, "stride", region.stride,
          "one with which " + std::to_string(blocks) + " blocks end below 2^63");
}

}  // namespace

Layout::Layout(std::vector<Region> regions, BlockId blocks) : blocks_(blocks) {
  require_in_range("blocks", blocks, 1, std::numeric_limits<BlockId>::max());
  if (regions.empty()) throw InvalidOption("regions: expected one or more, got none");
  for (std::size_t i = 0; i < regions.size(); ++i) {
    const Region& region = regions[i];
    validate(region, i, blocks);
    row_bytes_ += region.page;
    Region* last = regions_.empty() ? nullptr : &regions_.back();
    const bool continues = last != nullptr && region.stride == last->stride &&
                           region.base == last->base + static_cast<Address>(last->page) &&
                           last->page + region.page <= last->stride;
    if (continues) {
      last->page += region.page;
    } else {
      regions_.push_back(region);
    }
  }
}

void Layout::host_regions(Address base, Row rows, std::vector<Region>& out) const {
  out.clear();
  for (const Region& region : regions_) {
    out.push_back({base, region.page, region.page});
    base += static_cast<Address>(region.page * rows);
  }
}

}  // namespace lamps::swap
