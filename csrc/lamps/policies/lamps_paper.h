// SPDX-License-Identifier: Apache-2.0
// `lamps-paper`: what the paper describes (LAMPS, arXiv 2410.18248, section 4), without the defects
// of its released code. When a turn arrives, its handling is chosen from predictions by least
// waste; waiting turns are ranked by memory over time with that handling, all of them scored anew
// every Options::score_update_interval steps; whoever has waited Options::starvation_threshold
// steps goes to the head. No admission gate, and a handling is not revised.
#pragma once

#include <vector>

#include "lamps/policies/infercept.h"

namespace lamps {

class LampsPaperRules : public InferceptRules {
 public:
  using InferceptRules::InferceptRules;

  [[nodiscard]] ReadyKey key_of(const Request& request) const override;
  [[nodiscard]] Refresh refresh() const override { return Refresh::kAll; }
  [[nodiscard]] bool ages(const Request& /*request*/) const override { return true; }
  [[nodiscard]] bool stays_overdue() const override { return true; }

  [[nodiscard]] Verdict decide(Seconds now, SessionHandle handle) const override;
  [[nodiscard]] std::vector<Overruled> overruled(Seconds /*now*/) const override { return {}; }

  void on_arrival(Seconds now, const Request& request) override;

 private:
  std::vector<Handling> handling_;  // by session: chosen when its latest turn arrived
};

}  // namespace lamps
