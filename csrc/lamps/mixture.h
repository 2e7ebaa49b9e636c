// SPDX-License-Identifier: Apache-2.0
// One distribution from several, most special first: each part takes a share of the belief that
// those before it left, a prior takes the rest. All conditional questions are answered from the
// mixture's own masses, so they agree with each other.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "lamps/log_histogram.h"

namespace lamps {

// A view: the histograms must outlive it and must all have the same shape.
class Mixture {
 public:
  static constexpr std::size_t kMostParts = 8;

  // Adds a part less special than those before it, with `share` in [0, 1] of what they left.
  // Nothing happens if it is empty. At most kMostParts - 1 of them.
  void add(const LogHistogram& part, double share);
  // Adds what takes the rest of the belief; call once, last. `prior` must not be empty.
  void close(const LogHistogram& prior);

  // As in LogHistogram, but never without an answer: a closed mixture is never empty.
  [[nodiscard]] double survival(double x) const;            // P(X > x)
  [[nodiscard]] double expected_remaining(double x) const;  // E[X - x | X > x], > 0
  // P(X > x + later | X > x). 1 at later = 0.
  [[nodiscard]] double still_out(double x, double later) const;
  // Smallest t with P(X <= x + t | X > x) >= p, p in [0, 1).
  [[nodiscard]] double remaining_quantile(double x, double p) const;
  // P(X in a bin below x's) + half of P(X in x's bin): evenly spread over [0, 1] where the mixture
  // is right, and 0.5 where all values are the same.
  [[nodiscard]] double rank_of(double x) const;
  // P(X in the bin of x): how well x was predicted, up to the width of the bin.
  [[nodiscard]] double share_of_bin(double x) const;

 private:
  struct Part {
    const LogHistogram* histogram;
    double belief;  // per remembered observation
  };
  [[nodiscard]] LogHistogram::Mass beyond(const LogHistogram::Place& place) const;
  [[nodiscard]] std::span<const Part> parts() const { return {parts_.data(), size_}; }

  std::array<Part, kMostParts> parts_{};
  std::size_t size_ = 0;
  double left_ = 1.0;  // belief not yet given to a part
};

// A mixture of log-normals, as a prior: exp of a normal (mu, sigma), weights summing to 1.
struct LogNormal {
  double weight;
  double mu;
  double sigma;  // > 0
};
// Fills an empty histogram with one observation's worth of the mixture.
void fill(LogHistogram& histogram, std::span<const LogNormal> components);

}  // namespace lamps
