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
  ratio_ = std::exp(log_width_);
}

void LogHistogram::observe(double value) {
  if (!std::isfinite(value)) return;
  value = std::max(value, 0.0);
  // Old weights are faded by letting each new one count for more.
  increment_ /= forgetting_;
  const std::size_t index = index_of(value);
  for (std::size_t i = 0; i <= index; ++i) {
    tails_[i].weight += increment_;
    tails_[i].sum += increment_ * value;
  }
  if (increment_ > kLargestIncrement) renormalise();
}

void LogHistogram::renormalise() {
  for (Tail& tail : tails_) {
    tail.weight /= increment_;
    tail.sum /= increment_;
  }
  increment_ = 1.0;
}

double LogHistogram::weight() const { return tails_[0].weight / increment_; }

double LogHistogram::mean() const {
  return tails_[0].weight > 0.0 ? tails_[0].sum / tails_[0].weight : 0.0;
}

void LogHistogram::fade(double weight) {
  const double now = this->weight();
  if (now > weight) increment_ *= now / std::max(weight, kNoMass * now);
  if (increment_ > kLargestIncrement) renormalise();
}

LogHistogram::Place LogHistogram::locate(double x) const {
  const std::size_t index = index_of(x);
  return {std::max(x, 0.0), index, lower_edge(index)};
}

LogHistogram::Mass LogHistogram::beyond(const Place& place) const {
  const Tail tail = tail_beyond(place);
  return {tail.weight / increment_, tail.sum / increment_};
}

LogHistogram::Mass LogHistogram::in_bin(std::size_t bin) const {
  return {(tails_[bin].weight - tails_[bin + 1].weight) / increment_,
          (tails_[bin].sum - tails_[bin + 1].sum) / increment_};
}

LogHistogram::Mass LogHistogram::above_bin(std::size_t bin) const {
  return {tails_[bin + 1].weight / increment_, tails_[bin + 1].sum / increment_};
}

void LogHistogram::add(std::size_t bin, const Mass& mass) {
  for (std::size_t i = 0; i <= bin; ++i) {
    tails_[i].weight += mass.weight * increment_;
    tails_[i].sum += mass.sum * increment_;
  }
}

LogHistogram::Tail LogHistogram::tail_beyond(const Place& place) const {
  Tail tail = tails_[place.bin + 1];
  const Bin split = bin(place.bin, place.from);
  if (split.content.weight <= 0.0) return tail;
  const double passed = std::clamp((place.x - split.from) / (split.to - split.from), 0.0, 1.0);
  const double part = split.content.weight * (1.0 - passed);
  // The mean of what lies beyond x runs from the bin's own mean (x at its lower edge) to its upper
  // edge; for values spread evenly over the bin this is exact.
  const double mean = std::clamp(split.content.sum / split.content.weight, split.from, split.to);
  tail.weight += part;
  tail.sum += part * (mean + passed * (split.to - mean));
  return tail;
}

double LogHistogram::expected_remaining(double x) const {
  const Tail tail = tail_beyond(locate(x));
  if (tail.weight <= kNoMass * tails_[0].weight) return std::max(x, low_);
  return std::max(tail.sum / tail.weight - x, 0.0);
}

double LogHistogram::survival(double x) const {
  if (tails_[0].weight <= 0.0) return 1.0;
  return std::min(tail_beyond(locate(x)).weight / tails_[0].weight, 1.0);
}

double LogHistogram::quantile(double p) const {
  if (tails_[0].weight <= 0.0 || p <= 0.0) return 0.0;
  const double beyond = (1.0 - std::min(p, 1.0)) * tails_[0].weight;
  // The last bin at whose upper edge no more than `beyond` is left; tails_ never increases.
  const auto next = std::partition_point(tails_.begin() + 1, tails_.end(),
                                         [=](const Tail& tail) { return tail.weight > beyond; });
  const auto index = static_cast<std::size_t>(next - tails_.begin()) - 1;
  const Bin last = bin(index, lower_edge(index));
  if (last.content.weight <= 0.0) return last.from;
  const double inside = (beyond - next->weight) / last.content.weight;
  return last.to - (last.to - last.from) * std::clamp(inside, 0.0, 1.0);
}

std::size_t LogHistogram::index_of(double value) const {
  if (value <= low_) return 0;
  const double position = (std::log(value) - log_low_) / log_width_;
  return static_cast<std::size_t>(std::min(position, static_cast<double>(kBins - 1)));
}

double LogHistogram::lower_edge(std::size_t index) const {
  return index == 0 ? 0.0 : std::exp(log_low_ + static_cast<double>(index) * log_width_);
}

LogHistogram::Bin LogHistogram::bin(std::size_t index, double from) const {
  // Bins that saw the same additions are equal to the last bit, so an empty bin's difference is 0.
  const Tail content = {tails_[index].weight - tails_[index + 1].weight,
                        tails_[index].sum - tails_[index + 1].sum};
  double to = index == 0 ? low_ * ratio_ : from * ratio_;
  if (index + 1 == kBins) {
    // Open above: it reaches as far as its mean says, if its values lie evenly in it.
    to = std::max(high_, content.weight > 0.0 ? 2.0 * content.sum / content.weight - from : 0.0);
  }
  return {from, to, content};
}

}  // namespace lamps
