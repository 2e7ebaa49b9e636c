// SPDX-License-Identifier: Apache-2.0
#include "swap/transfer.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace lamps::swap {
namespace {

// Whether two blocks of a store would be written to one row.
bool rows_repeat(const Order& order) {
  std::vector<Row> rows;
  rows.reserve(order.slots.size());
  auto slot = order.slots.begin();
  for (const Piece& piece : order.pieces) {
    for (BlockId i = 0; i < piece.count; ++i) rows.push_back(piece.extent.first + *slot++);
  }
  std::sort(rows.begin(), rows.end());
  return std::adjacent_find(rows.begin(), rows.end()) != rows.end();
}

}  // namespace

Transfer::Transfer(Job job, Mark mark, std::int64_t sequence, Seconds queued_at)
    : queued(queued_at), job_(std::move(job)), mark_(mark), sequence_(sequence) {}

bool Transfer::before(const Transfer& other) const {
  return std::tuple(-job_.priority, job_.deadline, sequence_) <
         std::tuple(-other.job_.priority, other.job_.deadline, other.sequence_);
}

void Transfer::plan(Planner& planner, const HostRows& host, const Calibration& calibration,
                    const Backend& backend) {
  planned_ = true;
  const Order& order = job_.order;
  const Bytes row_bytes = planner.layout().row_bytes();
  std::span<const BlockId> blocks(order.blocks), slots(order.slots);
  std::vector<BlockRun> runs;
  // Blocks must differ across pieces as well, so the whole list is looked at first.
  if (!planner.find_runs(blocks, slots, runs) ||
      (order.direction == Direction::kStore && rows_repeat(order))) {
    return end_as(Outcome::kInvalidBlocks);
  }
  moves_.reset(planner.layout(), order.direction);
  for (const Piece& piece : order.pieces) {
    const auto count = static_cast<std::size_t>(piece.count);
    if (order.pieces.size() > 1) {
      (void)planner.find_runs(blocks.first(count), slots.first(count), runs);
    }
    const Address base = host.base + static_cast<Address>(piece.extent.first * row_bytes);
    moves_.add(runs, base, piece.extent.rows);
    blocks = blocks.subspan(count);
    slots = slots.subspan(count);
  }
  bytes_ = row_bytes * static_cast<Bytes>(order.blocks.size());
  path_ = backend.usable(choose_path(calibration, order.direction, move_count(), bytes_),
                         order.direction);
}

std::uint64_t Transfer::checksum(Planner& planner, const HostRows& host, bool read_device,
                                 BlockId block, BlockId slot) {
  const Layout& layout = planner.layout();
  if (read_device) return block_checksum(cpu_kernels(), layout.regions(), block);
  if (check_in_piece_ == 0) {
    const Extent& extent = job_.order.pieces[check_piece_].extent;
    layout.host_regions(host.base + static_cast<Address>(extent.first * layout.row_bytes()),
                        extent.rows, host_regions_);
  }
  return block_checksum(cpu_kernels(), host_regions_, slot);
}

bool Transfer::check_some(Planner& planner, const HostRows& host, bool read_device, Bytes bytes) {
  const Order& order = job_.order;
  const Bytes row_bytes = planner.layout().row_bytes();
  for (; bytes > 0 && check_block_ < order.blocks.size(); bytes -= row_bytes, ++check_block_) {
    const Piece& piece = order.pieces[check_piece_];
    const BlockId slot = order.slots[check_block_];
    const std::uint64_t found =
        checksum(planner, host, read_device, order.blocks[check_block_], slot);
    std::uint64_t& noted = host.checksums[piece.extent.first + slot];
    if (order.direction == Direction::kStore) {
      noted = found;
    } else if (noted != found) {
      end_as(Outcome::kChecksumMismatch);
      return false;
    }
    if (++check_in_piece_ == piece.count) ++check_piece_, check_in_piece_ = 0;
  }
  return check_block_ < order.blocks.size();
}

void Transfer::end_as(Outcome outcome) { outcome_ = std::max(outcome_, outcome); }

}  // namespace lamps::swap
