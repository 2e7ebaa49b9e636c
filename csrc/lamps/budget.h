// SPDX-License-Identifier: Apache-2.0
// How much of the KV pool admitted sessions' projected peaks may fill. Additive increase,
// multiplicative decrease on thrash: KV that was lost against our will (a preemption, or a kept
// pause taken away under pressure) and has to be computed again.
#pragma once

#include "lamps/types.h"

namespace lamps {

class AdmissionBudget {
 public:
  // `capacity` > 0 tokens; 0.1 <= low <= high <= 1 (validated by Options).
  AdmissionBudget(Tokens capacity, double low, double high);

  void on_thrash(Tokens lost_tokens);  // `lost_tokens` must be computed again
  void on_served(Tokens tokens);       // a turn of `tokens` context was served without loss

  [[nodiscard]] double share() const { return share_; }
  [[nodiscard]] Tokens tokens() const;  // for new admissions
  [[nodiscard]] Tokens capacity() const { return capacity_; }
  [[nodiscard]] Tokens thrashed_tokens() const { return thrashed_; }

 private:
  Tokens capacity_;
  double low_;
  double high_;
  double share_;
  Tokens thrashed_ = 0;
};

}  // namespace lamps
