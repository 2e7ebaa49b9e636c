// SPDX-License-Identifier: Apache-2.0
// `sjf` and `sjf-total`: shortest predicted job first. The job is what is left of the turn's
// output, and for `sjf-total` the call after it too. Nothing is kept, nothing ages.
#pragma once

#include "lamps/policies/rules.h"

namespace lamps {

class SjfRules : public Rules {
 public:
  using Rules::Rules;
  [[nodiscard]] ReadyKey key_of(const Request& request) const override;
  [[nodiscard]] Refresh refresh() const override { return Refresh::kAll; }

 protected:
  [[nodiscard]] Seconds output_seconds(const Request& request) const;
};

class SjfTotalRules : public SjfRules {
 public:
  using SjfRules::SjfRules;
  [[nodiscard]] ReadyKey key_of(const Request& request) const override;
};

}  // namespace lamps
