// SPDX-License-Identifier: Apache-2.0
#include "lamps/log_histogram.h"

#include <algorithm>
#include <cmath>

#include "lamps/errors.h"

namespace lamps {
namespace {

constexpr double kLargestIncrement = 1.0e100;  // renormalise well before anything overflows
constexpr double kNoMass = 1.0e-9;  // share of the weight that is nothing but old, faded or rounded

}  // namespace

LogHistogram::LogHistogram(double low, double high, double forgetting)
    : low_(low), high_(high), forgetting_(forgetting) {
  require_in_range("low", low, 1.0e-12, 1.0e12);
  require_in_range("high", high, low * 1.001, 1.0e15);
  require_in_range("forgetting", forgetting, 1.0e-3, 1.0);
  log_low_ = std::log(low);
  log_width_ = (std::log(high) - log_low_) / static_cast<double>(kBins);
}

void LogHistogram::observe(double value) {
  if (!std::isfinite(value)) return;
  value = std::max(value, 0.0);
  // Old weights are faded by letting each new one count for more: O(1) instead of O(bins).
  increment_ /= forgetting_;
  const std::size_t bin = bin_of(value);
  bins_[bin] += increment_;
  sums_[bin] += increment_ * value;
  weight_ += increment_;
  weighted_sum_ += increment_ * value;
  if (increment_ > kLargestIncrement) renormalise();
}

void LogHistogram::renormalise() {
  weight_ = 0.0;
  weighted_sum_ = 0.0;
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    bins_[bin] /= increment_;
    sums_[bin] /= increment_;
    weight_ += bins_[bin];
    weighted_sum_ += sums_[bin];
  }
  increment_ = 1.0;
}

double LogHistogram::weight() const { return weight_ / increment_; }

double LogHistogram::mean() const { return weight_ > 0.0 ? weighted_sum_ / weight_ : 0.0; }

LogHistogram::Tail LogHistogram::tail_beyond(double x) const {
  Tail tail;
  const std::size_t bin = bin_of(x);
  for (std::size_t i = bin + 1; i < kBins; ++i) {
    tail.weight += bins_[i];
    tail.sum += sums_[i];
  }
  if (bins_[bin] > 0.0) {
    const double from = lower_edge(bin);
    const double to = upper_edge(bin);
    const double passed = std::clamp((x - from) / (to - from), 0.0, 1.0);
    const double part = bins_[bin] * (1.0 - passed);
    // The mean of what lies beyond x runs from the bin's own mean (x at its lower edge) to its
    // upper edge; for values spread evenly over the bin this is exact.
    const double bin_mean = std::clamp(sums_[bin] / bins_[bin], from, to);
    tail.weight += part;
    tail.sum += part * (bin_mean + passed * (to - bin_mean));
  }
  return tail;
}

double LogHistogram::expected_remaining(double x) const {
  const Tail tail = tail_beyond(x);
  if (tail.weight <= kNoMass * weight_) return std::max(x, low_);
  return std::max(tail.sum / tail.weight - x, 0.0);
}

double LogHistogram::survival(double x) const {
  if (weight_ <= 0.0) return 1.0;
  return std::min(tail_beyond(x).weight / weight_, 1.0);
}

double LogHistogram::quantile(double p) const {
  if (weight_ <= 0.0 || p <= 0.0) return 0.0;
  const double target = std::min(p, 1.0) * weight_;
  double below = 0.0;
  double highest = 0.0;
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    if (bins_[bin] <= 0.0) continue;
    const double from = lower_edge(bin);
    highest = upper_edge(bin);
    if (below + bins_[bin] >= target) {
      return from + (highest - from) * std::max((target - below) / bins_[bin], 0.0);
    }
    below += bins_[bin];
  }
  return highest;  // p = 1, and the bins' sum is a rounding error below the total
}

std::size_t LogHistogram::bin_of(double value) const {
  if (value <= low_) return 0;
  const double position = (std::log(value) - log_low_) / log_width_;
  return static_cast<std::size_t>(std::clamp(position, 0.0, static_cast<double>(kBins - 1)));
}

double LogHistogram::lower_edge(std::size_t bin) const {
  if (bin == 0) return 0.0;
  return std::exp(log_low_ + static_cast<double>(bin) * log_width_);
}

double LogHistogram::upper_edge(std::size_t bin) const {
  if (bin + 1 < kBins) return lower_edge(bin + 1);
  // The last bin is open: it reaches as far as its mean says, if its values lie evenly in it.
  const double from = lower_edge(bin);
  const double mean = bins_[bin] > 0.0 ? sums_[bin] / bins_[bin] : from;
  return std::max(high_, 2.0 * mean - from);
}

}  // namespace lamps
