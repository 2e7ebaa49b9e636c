// SPDX-License-Identifier: Apache-2.0
#include "lamps/level.h"

#include <algorithm>
#include <cmath>

namespace lamps {
namespace {

// Drift: a two-sided CUSUM (Page 1954) on the ranks of the values in their own prediction, which
// are evenly spread over [0, 1] while nothing changes. With these a shift of the median to the 75 %
// quantile is seen after about 30 values, and a false alarm comes once in some 50,000.
constexpr double kSlack = 0.15;
constexpr double kAlarm = 5.0;
constexpr double kJudgeable = 20.0;   // observations before a level's ranks mean anything
constexpr double kAfterDrift = 20.0;  // observations that all before a drift count for

constexpr double kScoreMemory = 0.02;  // weight of a new score: about 50 are remembered
constexpr double kOffBelow = -0.1;     // gain at which a level is switched off ...
constexpr double kOnAbove = 0.0;       // ... and on again
constexpr double kLeastShare = 1.0e-4;

}  // namespace

void ReturnCount::observe(bool came_back, double forgetting) {
  returned = returned * forgetting + (came_back ? 1.0 : 0.0);
  ended = ended * forgetting + (came_back ? 0.0 : 1.0);
}

// All that is counted is withdrawn again: what is left below zero is rounding.
void ReturnCount::count_silence(double change) { silent = std::max(0.0, silent + change); }

double ReturnCount::rate(double fallback, double weight) const {
  return (returned + fallback * weight) / (returned + ended + silent + weight);
}

void Calibration::score(const Mixture& predicted, double value) {
  const double below = 1.0 - predicted.survival(value);
  ++scored;
  if (below <= 0.5) ++below_50;
  if (below <= 0.9) ++below_90;
  if (below <= 0.99) ++below_99;
  const double median = predicted.remaining_quantile(0.0, 0.5);
  if (value > 0.0 && median > 0.0) log_error += std::abs(std::log(value / median));
}

bool Level::has_drifted(double rank) {
  rising_ = std::max(0.0, rising_ + rank - 0.5 - kSlack);
  falling_ = std::max(0.0, falling_ + 0.5 - rank - kSlack);
  if (std::max(rising_, falling_) < kAlarm) return false;
  rising_ = falling_ = 0.0;
  return true;
}

double Level::share(double shrinkage) const {
  return off_ ? 0.0 : seen_.weight() / (seen_.weight() + shrinkage);
}

void Level::judge(double value, const Mixture& fallback) {
  const double weight = seen_.weight();
  const double mine = seen_.in_bin(seen_.locate(value).bin).weight;
  const double theirs = std::max(fallback.share_of_bin(value), kLeastShare);
  const double together = (mine + kShrinkage * theirs) / (weight + kShrinkage);
  gain_ += kScoreMemory * (std::log(together / theirs) - gain_);
  if (off_ ? gain_ > kOnAbove : gain_ < kOffBelow) off_ = !off_;
}

void Level::observe(double value, const Mixture& own, const Mixture& fallback) {
  if (seen_.weight() >= kJudgeable) {
    judge(value, fallback);
    if (has_drifted(own.rank_of(value))) {
      seen_.fade(kAfterDrift);
      ++drifts_;
    }
  }
  seen_.observe(value);
}

}  // namespace lamps
