// SPDX-License-Identifier: Apache-2.0
// One place in a hierarchy of predictions (a tool, a class of calls, a class of requests): what was
// seen there, whether it has changed, whether knowing it has helped, and how good the predictions
// were that were made with it.
#pragma once

#include <cstdint>

#include "lamps/log_histogram.h"
#include "lamps/mixture.h"

namespace lamps {

// How often sessions came back from a call; the older, the less it counts.
struct ReturnCount {
  double returned = 0.0;
  double ended = 0.0;
  double silent = 0.0;  // of calls under way: how much of an end their silence counts for

  void observe(bool came_back, double forgetting);
  void count_silence(double change);
  // Share of returns, shrunk towards `fallback` as if that were `weight` more observations.
  [[nodiscard]] double rate(double fallback, double weight) const;
};

// Predicted against actual since the start; counters only grow.
struct Calibration {
  std::int64_t scored = 0;
  std::int64_t below_50 = 0;  // actual values below the predicted median, 90 % and 99 % quantiles
  std::int64_t below_90 = 0;
  std::int64_t below_99 = 0;
  double log_error = 0.0;  // sum of |ln(actual / predicted median)|

  // `predicted` as it was before the value was known; value > 0.
  void score(const Mixture& predicted, double value);
};

class Level {
 public:
  // Observations that the fallback counts for when a level is weighed against it.
  static constexpr double kShrinkage = 5.0;

  explicit Level(const LogHistogram& empty) : seen_(empty) {}

  // `own` is the mixture from this level on, by which drift is seen; the level is judged against
  // `fallback`, the mixture without it. Both as they were before the value.
  void observe(double value, const Mixture& own, const Mixture& fallback);
  // The part of the belief that is the level's own, [0, 1); the rest is its fallback's.
  [[nodiscard]] double share(double shrinkage) const;
  // Switched off: its predictions have been worse than its fallback's, which is believed instead.
  // It goes on learning, and is switched on again when it has become the better one.
  [[nodiscard]] bool off() const { return off_; }
  // Average gain over the fallback, nats per observation; about the last 50 count.
  [[nodiscard]] double gain() const { return gain_; }
  [[nodiscard]] std::int64_t drifts() const { return drifts_; }
  [[nodiscard]] const LogHistogram& seen() const { return seen_; }

  // From a snapshot.
  LogHistogram& seen() { return seen_; }
  void restore(bool off, double gain) { off_ = off, gain_ = gain; }

  ReturnCount returns;
  Calibration calibration;

 private:
  [[nodiscard]] bool has_drifted(double rank);
  void judge(double value, const Mixture& fallback);

  LogHistogram seen_;
  double rising_ = 0.0;  // cumulated evidence that values are larger than they were
  double falling_ = 0.0;
  double gain_ = 0.0;
  std::int64_t drifts_ = 0;
  bool off_ = false;
};

}  // namespace lamps
