// SPDX-License-Identifier: Apache-2.0
#include "lamps/budget.h"

#include <algorithm>

namespace lamps {
namespace {
// Losing a whole pool's worth of KV halves the distance to the floor; serving ten pools' worth
// without loss brings back the same amount. Both in units of capacity, so pool size cancels out.
constexpr double kDecrease = 0.5;
constexpr double kIncrease = 0.05;
}  // namespace

AdmissionBudget::AdmissionBudget(Tokens capacity, double low, double high)
    : capacity_(capacity), low_(low), high_(high), share_(high) {}

void AdmissionBudget::on_thrash(Tokens lost_tokens) {
  thrashed_ += lost_tokens;
  const double pools = static_cast<double>(lost_tokens) / static_cast<double>(capacity_);
  share_ -= (share_ - low_) * std::min(kDecrease * pools, 1.0);
}

void AdmissionBudget::on_served(Tokens tokens) {
  const double pools = static_cast<double>(tokens) / static_cast<double>(capacity_);
  share_ = std::min(high_, share_ + kIncrease * pools);
}

Tokens AdmissionBudget::tokens() const {
  return static_cast<Tokens>(share_ * static_cast<double>(capacity_));
}

}  // namespace lamps
