// SPDX-License-Identifier: Apache-2.0
#include "lamps/options.h"

#include "lamps/errors.h"

namespace lamps {

void Options::validate() const {
  require_in_range("rank_weight", rank_weight, 0.0, 1e6);
  require_in_range("rank_horizon", rank_horizon, 0.0, 1e6);
  require_in_range("starvation_threshold", static_cast<double>(starvation_threshold), 1.0, 1e9);
  require_in_range("starvation_seconds", starvation_seconds, 0.0, 1e6);
  require_in_range("score_update_interval", static_cast<double>(score_update_interval), 1.0, 1e6);
  require_in_range("admission_share", admission_share, 0.1, 1.0);
  require_in_range("min_admission_share", min_admission_share, 0.1, admission_share);
  require_in_range("redecide_seconds", redecide_seconds, 1e-3, 3600.0);
  require_in_range("forget_seconds", forget_seconds, 1.0, 1e7);
  require_in_range("victim_hysteresis", victim_hysteresis, 0.0, 10.0);
}

void Engine::validate() const {
  constexpr double kMost = 1e12;
  require_in_range("capacity_tokens", static_cast<double>(capacity_tokens), 1.0, kMost);
  require_in_range("block_tokens", static_cast<double>(block_tokens), 1.0, kMost);
  require_in_range("max_context", static_cast<double>(max_context), 1.0, kMost);
  require_in_range("step_tokens", static_cast<double>(step_tokens), 1.0, kMost);
  require_in_range("host_tokens", static_cast<double>(host_tokens), 0.0, kMost);
}

}  // namespace lamps
