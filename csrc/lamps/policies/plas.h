// SPDX-License-Identifier: Apache-2.0
// `plas`: least attained service per session (Autellix, arXiv 2502.13965), without its discrete
// levels. Service is the time that the session's turns have spent running; the session with most of
// it is preempted first. Nothing is kept.
#pragma once

#include "lamps/policies/rules.h"

namespace lamps {

class PlasRules : public Rules {
 public:
  using Rules::Rules;
  [[nodiscard]] ReadyKey key_of(const Request& request) const override;
  [[nodiscard]] bool orders_running() const override { return true; }
  void order_running(std::vector<RequestHandle>& running) const override;
};

}  // namespace lamps
