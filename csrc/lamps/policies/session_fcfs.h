// SPDX-License-Identifier: Apache-2.0
// `session-fcfs`: vLLM's priority scheduling with the session's arrival number as priority. Older
// sessions first; ties by arrival of the request; the youngest session is preempted first.
#pragma once

#include "lamps/policies/rules.h"

namespace lamps {

class SessionFcfsRules : public Rules {
 public:
  using Rules::Rules;
  [[nodiscard]] ReadyKey key_of(const Request& request) const override;
  [[nodiscard]] bool orders_running() const override { return true; }
  void order_running(std::vector<RequestHandle>& running) const override {
    oldest_session_first(running);
  }
};

}  // namespace lamps
