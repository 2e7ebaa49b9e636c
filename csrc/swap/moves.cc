// SPDX-License-Identifier: Apache-2.0
#include "swap/moves.h"

#include <algorithm>

namespace lamps::swap {
namespace {

bool gapless(const Region& region) { return region.stride == region.page; }

bool same_shape(const Region& a, const Region& b) {
  return a.stride == b.stride && a.page == b.page;
}

std::size_t copies_of(std::span<const BlockRun> runs, const Region& region) {
  if (gapless(region)) return runs.size();
  std::size_t blocks = 0;
  for (const BlockRun& run : runs) blocks += static_cast<std::size_t>(run.count);
  return blocks;
}

Move move_of(Direction direction, Address device, Address host, std::uint64_t bytes) {
  return direction == Direction::kStore ? Move{device, host, bytes} : Move{host, device, bytes};
}

// The same copies between places that lie further up, two at a time. The bytes of `by` are 0, and
// added so that compilers see six words that are treated alike. Not inlined: GCC forgets __restrict
// with that, and needs a quarter more time.
[[gnu::noinline]] void shift(std::span<const Move> moves, Move by, Move* __restrict out) {
  const Move* in = moves.data();
  const std::size_t pairs = moves.size() / 2 * 2;
  for (std::size_t i = 0; i < pairs; i += 2) {
    const Move &a = in[i], &b = in[i + 1];
    out[i] = {a.source + by.source, a.target + by.target, a.bytes + by.bytes};
    out[i + 1] = {b.source + by.source, b.target + by.target, b.bytes + by.bytes};
  }
  if (pairs == moves.size()) return;
  const Move& last = in[pairs];
  out[pairs] = {last.source + by.source, last.target + by.target, last.bytes};
}

}  // namespace

void Moves::reset(const Layout& layout, Direction direction) {
  layout_ = &layout;
  direction_ = direction;
  runs_.clear();
  parts_.clear();
  offsets_.clear();
  ends_.clear();
  count_ = left_ = 0;
  part_ = region_ = next_ = 0;
}

void Moves::add(std::span<const BlockRun> runs, Address base, Row rows) {
  if (runs.empty()) return;
  parts_.push_back({runs_.size(), runs.size(), base, rows});
  runs_.insert(runs_.end(), runs.begin(), runs.end());
  for (const Region& region : layout_->regions()) {
    const std::size_t copies = copies_of(runs, region);
    count_ += copies;
    left_ += copies;
  }
}

void Moves::make_offsets(const Part& part, const Region& region) {
  const auto runs = std::span(runs_).subspan(part.first, part.count);
  const auto stride = static_cast<std::uint64_t>(region.stride);
  const auto page = static_cast<std::uint64_t>(region.page);
  const bool whole = gapless(region);
  offsets_.resize(copies_of(runs, region));
  ends_.resize(offsets_.size());
  std::size_t next = 0;
  std::uint64_t bytes = 0;
  for (const BlockRun& run : runs) {
    const auto block = static_cast<std::uint64_t>(run.block);
    const auto slot = static_cast<std::uint64_t>(run.slot);
    const auto count = static_cast<std::uint64_t>(run.count);
    const std::uint64_t each = whole ? page * count : page;
    for (std::uint64_t i = 0; i < (whole ? 1 : count); ++i, ++next) {
      offsets_[next] = move_of(direction_, (block + i) * stride, (slot + i) * page, each);
      ends_[next] = bytes += each;
    }
  }
}

void Moves::open_region() {
  const std::span<const Region> regions = layout_->regions();
  if (region_ == regions.size()) ++part_, region_ = 0;
  Part& part = parts_[part_];
  const Region& region = regions[region_];
  if (region_ == 0 || !same_shape(regions[region_ - 1], region)) make_offsets(part, region);
  device_base_ = region.base;
  host_base_ = part.base;
  part.base += static_cast<Address>(region.page * part.rows);
  ++region_;
  next_ = 0;
  taken_ = 0;
}

std::span<const Move> Moves::take(const SliceLimit& limit, std::vector<Move>& memory) {
  const std::size_t most = std::min(limit.moves, left_);
  if (memory.size() < most) memory.resize(most);
  auto room = static_cast<std::uint64_t>(limit.bytes);
  std::size_t count = 0;
  while (room > 0 && count < most) {
    if (next_ == offsets_.size()) open_region();
    // Those that fit: of the first of them, only what a cut has left.
    const auto first = ends_.begin() + static_cast<std::ptrdiff_t>(next_);
    const auto most_here = std::min(most - count, offsets_.size() - next_);
    const auto fitting = static_cast<std::size_t>(
        std::upper_bound(first, first + static_cast<std::ptrdiff_t>(most_here), taken_ + room) -
        first);
    const std::uint64_t inside = taken_ - (next_ == 0 ? 0 : ends_[next_ - 1]);
    const std::size_t some = std::max<std::size_t>(fitting, 1);
    Move* out = memory.data() + count;
    shift(std::span(offsets_).subspan(next_, some),
          move_of(direction_, device_base_, host_base_, 0), out);
    *out = {out->source + inside, out->target + inside, out->bytes - inside};
    if (fitting == 0) out->bytes = room;
    const std::uint64_t bytes = fitting == 0 ? room : ends_[next_ + fitting - 1] - taken_;
    room -= bytes;
    taken_ += bytes;
    next_ += fitting;
    left_ -= fitting;
    count += some;
  }
  return std::span(memory).first(count);
}

}  // namespace lamps::swap
