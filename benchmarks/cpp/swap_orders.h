// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "swap/mover.h"

namespace lamps::swap {

// `jobs` orders of equal size that take `blocks` in turn; host rows are used from 0 up, so that a
// job's bytes on the host are one contiguous piece.
inline std::vector<Order> orders_over(const std::vector<BlockId>& blocks, int jobs) {
  const auto each = static_cast<BlockId>(blocks.size() / static_cast<std::size_t>(jobs));
  std::vector<Order> orders(static_cast<std::size_t>(jobs));
  for (int job = 0; job < jobs; ++job) {
    Order& order = orders[static_cast<std::size_t>(job)];
    order.blocks.assign(blocks.begin() + job * each, blocks.begin() + (job + 1) * each);
    assign_slots(order.blocks, order.slots);
    order.pieces = {{{Row{job} * each, each}, each}};
  }
  return orders;
}

}  // namespace lamps::swap
