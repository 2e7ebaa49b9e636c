// SPDX-License-Identifier: Apache-2.0
// Tables whose rows are used again: dense ids, the last freed one first.
#pragma once

#include <vector>

namespace lamps::sim {

// The id of a row that nobody uses, a new one at the end of the table when none is idle. The row
// holds what its last user left in it. It is given back with idle.push_back(id).
template <typename Row, typename Id>
[[nodiscard]] Id take_slot(std::vector<Row>& rows, std::vector<Id>& idle) {
  if (idle.empty()) {
    rows.emplace_back();
    return static_cast<Id>(rows.size() - 1);
  }
  const Id id = idle.back();
  idle.pop_back();
  return id;
}

}  // namespace lamps::sim
