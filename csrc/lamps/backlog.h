// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <utility>

#include "lamps/types.h"

namespace lamps {

// How long those who wait would take to get in at the pace of the last sixteen admissions (Little's
// law). It has no time scale of its own: an engine ten times as fast has a backlog a tenth as long.
class Backlog {
 public:
  // One was let in while `waiting` others waited. `now` never goes back.
  void admitted(Seconds now, std::size_t waiting) {
    const Seconds first = std::exchange(times_[next_], now);
    next_ = (next_ + 1) % kAdmissions;
    if (count_ < kAdmissions) {
      ++count_;
    } else {
      drain_ = static_cast<double>(waiting) * (now - first) / static_cast<double>(kAdmissions);
    }
  }
  // Seconds; without end until more than sixteen were let in.
  [[nodiscard]] Seconds drain() const { return drain_; }

 private:
  static constexpr std::size_t kAdmissions = 16;
  std::array<Seconds, kAdmissions> times_{};
  std::size_t next_ = 0;
  std::size_t count_ = 0;
  Seconds drain_ = kForever;
};

}  // namespace lamps
