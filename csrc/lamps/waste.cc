// SPDX-License-Identifier: Apache-2.0
#include "lamps/waste.h"

#include <algorithm>

namespace lamps {

Loss loss_of(const PauseContext& pause, const CostModel& cost) {
  const double context = static_cast<double>(pause.context_tokens);
  const double others = static_cast<double>(pause.other_tokens);
  Loss loss;
  loss.drop = cost.recompute_time(pause.context_tokens, pause.chunk) * (0.5 * context + others) *
              pause.loss_share;
  const Seconds copy = pause.host_memory_free ? cost.swap_time(pause.context_tokens) : kForever;
  loss.swap_out = copy < kForever ? copy * context : kForever;
  loss.swap_in = copy < kForever ? copy * context : 0.0;
  if (pause.on_host)
    loss.drop = std::min(loss.drop, cost.swap_time(pause.context_tokens) * context);
  return loss;
}

Waste waste_of(const PauseContext& pause, const CostModel& cost) {
  const double context = static_cast<double>(pause.context_tokens);
  const Loss loss = loss_of(pause, cost);
  Waste waste;
  // Memory nobody wants is free to hold, even for ever (kForever * 0 is not 0).
  if (pause.pressure > 0.0 && pause.context_tokens > 0) {
    waste.preserve = context * pause.expected_remaining * pause.pressure;
  }
  waste.discard = loss.drop * pause.p_return;
  waste.swap = loss.swap_out + pause.p_return * loss.swap_in;
  return waste;
}

Handling least_waste(const Waste& waste) {
  if (waste.preserve <= waste.swap && waste.preserve <= waste.discard) return Handling::kPreserve;
  return waste.swap <= waste.discard ? Handling::kSwap : Handling::kDiscard;
}

}  // namespace lamps
