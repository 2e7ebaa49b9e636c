// SPDX-License-Identifier: Apache-2.0
// One job on the mover's thread: planned, cut into slices, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "swap/backend.h"
#include "swap/cpu_kernels.h"
#include "swap/host_tier.h"

namespace lamps::swap {

struct Job {
  Order order = {};
  int priority = 0;             // higher first
  Seconds deadline = kForever;  // among equals, earlier first; by the caller's clock
  // Handle of a device stream whose work so far must be over before the first byte is read or
  // written: for a store, the one that computes the KV. (A handle of 0 is a stream, too.)
  std::optional<std::uint64_t> after_stream = std::nullopt;
};

// Host memory as transfers see it. `checksums` has one per row, or is null: do not check.
struct HostRows {
  Address base = 0;
  Row rows = 0;
  std::uint64_t* checksums = nullptr;
};

class Transfer {
 public:
  // `mark` is what Job::after_stream became.
  Transfer(Job job, Mark mark, std::int64_t sequence, Seconds queued);

  [[nodiscard]] bool before(const Transfer& other) const;  // in the order of service
  [[nodiscard]] const Order& order() const { return job_.order; }
  [[nodiscard]] Mark mark() const { return mark_; }

  // Finds the moves and their path. `planner` must outlive this. Ends as kInvalidBlocks if a block
  // occurs twice, or a row of a store: copies have no order among themselves.
  void plan(Planner& planner, const HostRows& host, const Calibration& calibration,
            const Backend& backend);
  [[nodiscard]] bool planned() const { return planned_; }

  // The next slice, in `memory` (Moves::take); empty when all have been handed out.
  [[nodiscard]] std::span<const Move> next_slice(const SliceLimit& limit,
                                                 std::vector<Move>& memory) {
    return moves_.take(limit, memory);
  }
  [[nodiscard]] bool all_handed_out() const { return moves_.all_taken(); }

  // Checksums of about `bytes` more bytes: noted for a store, compared for a load, where a
  // difference ends the transfer as kChecksumMismatch. False when all are through.
  [[nodiscard]] bool check_some(Planner& planner, const HostRows& host, bool read_device,
                                Bytes bytes);

  // Worse outcomes win. Anything but kDone also means: start nothing more.
  void end_as(Outcome outcome);
  [[nodiscard]] Outcome outcome() const { return outcome_; }

  // Kept by the mover.
  Seconds queued;
  Seconds started = 0;
  int in_flight = 0;  // slices
  int reading = 0;    // of them, those whose source is still being read
  bool checked = false;
  bool source_free_told = false;

  [[nodiscard]] Bytes bytes() const { return bytes_; }
  [[nodiscard]] std::int64_t move_count() const {
    return static_cast<std::int64_t>(moves_.count());
  }
  [[nodiscard]] Path path() const { return path_; }

 private:
  [[nodiscard]] std::uint64_t checksum(Planner& planner, const HostRows& host, bool read_device,
                                       BlockId block, BlockId slot);

  Job job_;
  Mark mark_;
  std::int64_t sequence_;
  bool planned_ = false;
  Outcome outcome_ = Outcome::kDone;
  Path path_ = Path::kDirect;
  Moves moves_;
  Bytes bytes_ = 0;
  std::size_t check_block_ = 0;  // next to check
  std::size_t check_piece_ = 0;
  BlockId check_in_piece_ = 0;
  std::vector<Region> host_regions_;  // of the piece being checked
};

}  // namespace lamps::swap
