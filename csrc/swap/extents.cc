// SPDX-License-Identifier: Apache-2.0
#include "swap/extents.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "lamps/errors.h"

namespace lamps::swap {
namespace {

constexpr double kMostRows = 1e15;

std::string text_of(const Extent& extent) {
  return "rows [" + std::to_string(extent.first) + ", " +
         std::to_string(extent.first + extent.rows) + ")";
}

}  // namespace

ExtentPool::ExtentPool(Row rows) : capacity_(rows), free_rows_(rows) {
  require_in_range("host rows", static_cast<double>(rows), 1, kMostRows);
  free_.emplace(0, rows);
}

ExtentPool::Free::iterator ExtentPool::best_fit(Row rows) {
  auto best = free_.end();
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->second >= rows && (best == free_.end() || it->second < best->second)) best = it;
  }
  return best;
}

Extent ExtentPool::cut(Free::iterator from, Row rows) {
  const Extent extent{from->first, rows};
  const Row left = from->second - rows;
  free_.erase(from);
  if (left > 0) free_.emplace(extent.first + rows, left);
  free_rows_ -= rows;
  return extent;
}

std::vector<Extent> ExtentPool::take(Row rows) {
  require_in_range("rows to take", static_cast<double>(rows), 1, kMostRows);
  std::vector<Extent> taken;
  if (rows > free_rows_) return taken;
  while (rows > 0) {
    auto from = best_fit(rows);
    if (from == free_.end()) {
      from = std::max_element(free_.begin(), free_.end(),
                              [](const auto& a, const auto& b) { return a.second < b.second; });
    }
    const Row some = std::min(rows, from->second);
    taken.push_back(cut(from, some));
    rows -= some;
  }
  return taken;
}

void ExtentPool::give_back(const Extent& extent) {
  const auto next = free_.lower_bound(extent.first);
  const auto last = next == free_.begin() ? free_.end() : std::prev(next);
  const bool inside =
      extent.first >= 0 && extent.rows >= 1 && extent.first + extent.rows <= capacity_;
  const bool overlaps = (next != free_.end() && next->first < extent.first + extent.rows) ||
                        (last != free_.end() && last->first + last->second > extent.first);
  if (!inside || overlaps) {
    throw UnknownHandle(text_of(extent) + ": expected rows in use, of " +
                        std::to_string(capacity_));
  }
  free_rows_ += extent.rows;
  Row rows = extent.rows;
  if (next != free_.end() && next->first == extent.first + extent.rows) {
    rows += next->second;
    free_.erase(next);
  }
  if (last != free_.end() && last->first + last->second == extent.first) {
    last->second += rows;
  } else {
    free_.emplace(extent.first, rows);
  }
}

void ExtentPool::check_invariants() const {
  Row sum = 0;
  Row end = -1;
  for (const auto& [first, rows] : free_) {
    if (rows < 1 || first <= end || first + rows > capacity_) {
      throw InvariantViolation("free " + text_of({first, rows}) + ": expected them after row " +
                               std::to_string(end) + " and not adjacent to it");
    }
    end = first + rows;
    sum += rows;
  }
  if (sum != free_rows_) {
    throw InvariantViolation("free rows = " + std::to_string(free_rows_) + ": expected " +
                             std::to_string(sum));
  }
}

}  // namespace lamps::swap
