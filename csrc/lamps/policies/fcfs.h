// SPDX-License-Identifier: Apache-2.0
// `fcfs`: the engine's own behaviour. Requests go in the order in which they arrived, whoever was
// preempted last goes first, nothing is kept, and the request that started last is preempted first.
#pragma once

#include "lamps/policies/rules.h"

namespace lamps {

class FcfsRules : public Rules {
 public:
  using Rules::Rules;
  [[nodiscard]] ReadyKey key_of(const Request& request) const override;
};

}  // namespace lamps
