// SPDX-License-Identifier: Apache-2.0
#include "lamps/mixture.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lamps {
namespace {

constexpr double kNoMass = 1.0e-9;  // a share that is nothing but rounded or faded away

// P(X > x) and E[X; X > x] of a log-normal, in closed form.
LogHistogram::Mass log_normal_beyond(const LogNormal& part, double x) {
  const double z = x > 0.0 ? (std::log(x) - part.mu) / part.sigma : -40.0;
  const auto upper = [](double t) { return 0.5 * std::erfc(t / std::numbers::sqrt2); };
  return {upper(z), std::exp(part.mu + 0.5 * part.sigma * part.sigma) * upper(z - part.sigma)};
}

}  // namespace

void Mixture::add(const LogHistogram& part, double share) {
  const double weight = part.weight();
  if (weight <= 0.0 || share <= 0.0 || size_ + 1 >= kMostParts) return;
  parts_[size_++] = {&part, left_ * share / weight};
  left_ *= 1.0 - share;
}

void Mixture::close(const LogHistogram& prior) {
  parts_[size_++] = {&prior, left_ / prior.weight()};
  left_ = 0.0;
}

LogHistogram::Mass Mixture::beyond(const LogHistogram::Place& place) const {
  LogHistogram::Mass all;
  for (const Part& part : parts()) {
    const LogHistogram::Mass mass = part.histogram->beyond(place);
    all.weight += part.belief * mass.weight;
    all.sum += part.belief * mass.sum;
  }
  return all;
}

double Mixture::survival(double x) const {
  return std::min(beyond(parts_[0].histogram->locate(x)).weight, 1.0);
}

double Mixture::expected_remaining(double x) const {
  const LogHistogram& any = *parts_[0].histogram;
  const LogHistogram::Mass mass = beyond(any.locate(x));
  // Beyond everything: a Pareto tail of exponent 2, whose mean is as far again. So below.
  if (mass.weight <= kNoMass) return std::max(x, any.low());
  return std::max(mass.sum / mass.weight - x, any.low());
}

double Mixture::still_out(double x, double later) const {
  const LogHistogram& any = *parts_[0].histogram;
  const double now = beyond(any.locate(x)).weight;
  if (now <= kNoMass) return (x / (x + later)) * (x / (x + later));
  return std::min(beyond(any.locate(x + later)).weight / now, 1.0);
}

double Mixture::remaining_quantile(double x, double p) const {
  const LogHistogram& any = *parts_[0].histogram;
  const double now = beyond(any.locate(x)).weight;
  if (now <= kNoMass) return x / std::sqrt(1.0 - p) - x;
  const double target = (1.0 - p) * now;
  // Bisection in the logarithm, to a thousandth.
  double low = std::max(x, any.low() * 1.0e-2);
  if (beyond(any.locate(low)).weight <= target) return std::max(low - x, 0.0);
  double high = 2.0 * low;
  while (high < 1.0e15 && beyond(any.locate(high)).weight > target) {
    low = high;
    high *= 2.0;
  }
  while (high > 1.001 * low) {
    const double middle = std::sqrt(low * high);
    (beyond(any.locate(middle)).weight > target ? low : high) = middle;
  }
  return high - x;
}

double Mixture::rank_of(double x) const {
  const std::size_t bin = parts_[0].histogram->locate(x).bin;
  double above = 0.0;
  for (const Part& part : parts()) {
    above += part.belief * part.histogram->above_bin(bin).weight;
  }
  return 1.0 - above - 0.5 * share_of_bin(x);
}

double Mixture::share_of_bin(double x) const {
  const std::size_t bin = parts_[0].histogram->locate(x).bin;
  double share = 0.0;
  for (const Part& part : parts()) share += part.belief * part.histogram->in_bin(bin).weight;
  return std::clamp(share, 0.0, 1.0);
}

void fill(LogHistogram& histogram, std::span<const LogNormal> components) {
  const auto beyond_edge = [&](double edge) {
    LogHistogram::Mass all;
    for (const LogNormal& part : components) {
      const LogHistogram::Mass mass = log_normal_beyond(part, edge);
      all.weight += part.weight * mass.weight;
      all.sum += part.weight * mass.sum;
    }
    return all;
  };
  LogHistogram::Mass rest = beyond_edge(0.0);
  for (std::size_t bin = 0; bin < LogHistogram::kBins; ++bin) {
    const bool last = bin + 1 == LogHistogram::kBins;
    const LogHistogram::Mass next =
        last ? LogHistogram::Mass{} : beyond_edge(histogram.lower_edge(bin + 1));
    histogram.add(bin, {rest.weight - next.weight, rest.sum - next.sum});
    rest = next;
  }
}

}  // namespace lamps
