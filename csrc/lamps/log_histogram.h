// SPDX-License-Identifier: Apache-2.0
// A small online distribution of a positive quantity (seconds of a call, tokens of an output) in
// logarithmic bins, with exponential forgetting. It answers conditional questions, which is what a
// re-decision needs: what is still to come, given that so much has already passed.
#pragma once

#include <array>
#include <cstddef>

namespace lamps {

class LogHistogram {
 public:
  static constexpr std::size_t kBins = 96;

  // Bins are log-spaced over [low, high); smaller values fall into the first bin, larger ones into
  // the last. `forgetting` in (0, 1]: every observation first multiplies the old weights by it,
  // so that about 1 / (1 - forgetting) observations are remembered.
  // Throws InvalidOption unless low is in [1e-12, 1e12], high in [1.001 * low, 1e15] and forgetting
  // in [1e-3, 1].
  LogHistogram(double low, double high, double forgetting);

  // Where a value lies; the same in every histogram of one shape, so a mixture locates it once.
  struct Place {
    double x = 0.0;  // the value, >= 0
    std::size_t bin = 0;
    double from = 0.0;  // lower edge of the bin
  };
  // Of the remembered observations, those in a part of the range: their number and their sum.
  struct Mass {
    double weight = 0.0;
    double sum = 0.0;
  };

  void observe(double value);  // value < 0 counts as 0; not finite: ignored
  // Lets the observations so far count for `weight` at most, >= 0: what comes next counts for more.
  void fade(double weight);
  [[nodiscard]] Place locate(double x) const;
  [[nodiscard]] Mass beyond(const Place& place) const;  // of values > place.x, linear within a bin
  [[nodiscard]] Mass in_bin(std::size_t bin) const;     // bin < kBins
  [[nodiscard]] Mass above_bin(std::size_t bin) const;  // of all bins after it
  // Adds observations that were counted before (a snapshot). weight >= 0, sum >= 0.
  void add(std::size_t bin, const Mass& mass);
  [[nodiscard]] double low() const { return low_; }
  [[nodiscard]] double lower_edge(std::size_t bin) const;  // 0 for the first bin
  [[nodiscard]] double weight() const;  // effective number of observations remembered
  [[nodiscard]] double mean() const;    // E[X]; 0 when empty
  // E[X - x | X > x], x >= 0. When no observed mass lies beyond x, the tail is taken as
  // proportional to x (a Pareto tail): the answer is x itself, never 0, at least `low`.
  [[nodiscard]] double expected_remaining(double x) const;
  // P(X > x), linear within a bin. 1 when empty (nothing is known).
  [[nodiscard]] double survival(double x) const;
  // Smallest x with P(X <= x) >= p, p in [0, 1]; linear within a bin; 0 when empty.
  [[nodiscard]] double quantile(double p) const;

 private:
  using Tail = Mass;  // in units of the newest observation's weight
  struct Bin {
    double from;
    double to;
    Tail content;
  };
  [[nodiscard]] Tail tail_beyond(const Place& place) const;
  [[nodiscard]] std::size_t index_of(double value) const;
  [[nodiscard]] Bin bin(std::size_t index, double from) const;
  void renormalise();

  double low_;
  double high_;
  double log_low_ = 0.0;
  double log_width_ = 0.0;  // ln(upper edge / lower edge) of a bin
  double ratio_ = 1.0;      // upper edge / lower edge
  double forgetting_;
  // All weights below are in units of the newest observation's, `increment_`, which grows.
  double increment_ = 1.0;
  // What lies in a bin and all above it: questions come far more often than observations. The sums
  // of the values make conditional means exact at bin edges.
  std::array<Tail, kBins + 1> tails_{};
};

}  // namespace lamps
