// SPDX-License-Identifier: Apache-2.0
// Hands out rows of bounded host memory, contiguous wherever that is possible. Accounting only: no
// memory is touched, so it runs where decisions are taken, which need not be where bytes move.
#pragma once

#include <map>
#include <vector>

#include "swap/layout.h"

namespace lamps::swap {

// Rows [first, first + rows).
struct Extent {
  Row first = 0;
  Row rows = 0;
  friend bool operator==(const Extent&, const Extent&) = default;
};

class ExtentPool {
 public:
  explicit ExtentPool(Row rows);  // throws InvalidOption unless rows >= 1

  // `rows` rows: the smallest free extent that has them all, else the fewest that do together,
  // longest first. Empty, and nothing taken, if there are not enough. O(free extents).
  // Throws InvalidOption unless rows >= 1.
  [[nodiscard]] std::vector<Extent> take(Row rows);
  // Takes back a whole extent as take() gave it; neighbours grow together. Throws UnknownHandle if
  // any of it is free already.
  void give_back(const Extent& extent);

  [[nodiscard]] Row free_rows() const { return free_rows_; }
  [[nodiscard]] Row capacity() const { return capacity_; }
  [[nodiscard]] std::size_t free_extents() const { return free_.size(); }
  void check_invariants() const;  // throws InvariantViolation

 private:
  using Free = std::map<Row, Row>;  // first -> rows, never adjacent
  [[nodiscard]] Free::iterator best_fit(Row rows);
  Extent cut(Free::iterator from, Row rows);

  Free free_;
  Row capacity_;
  Row free_rows_;
};

}  // namespace lamps::swap
