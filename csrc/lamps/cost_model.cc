// SPDX-License-Identifier: Apache-2.0
#include "lamps/cost_model.h"

#include <algorithm>
#include <cmath>

#include "lamps/errors.h"

namespace lamps {
namespace {

constexpr std::size_t kSize = 4;
using Vector = std::array<double, kSize>;
using Matrix = std::array<double, kSize * kSize>;

// Features are divided by these, so that those of an ordinary step are all of order one.
constexpr Vector kScale = {1.0, 512.0, 32.0, 32768.0};  // steps, tokens, sequences, tokens
// Upper ends of the ranges in CostParameters; the fit stays inside them too.
constexpr Vector kLargest = {10.0, 1.0, 1.0, 1.0e-3};

constexpr double kForgetting = 0.999;      // about 1,000 steps are remembered
constexpr double kPriorInformation = 0.1;  // the start parameters weigh a tenth of an ordinary step
constexpr double kHuber = 4.0;             // residuals beyond this many scales are clipped
constexpr double kScaleRate = 0.05;        // averaging of the residual scale
constexpr double kErrorRate = 0.02;        // averaging of the reported relative error
constexpr double kFirstScale = 0.1;   // residual scale before the first step, as a share of base
constexpr double kScaleFloor = 0.02;  // least residual scale, as a share of the predicted time
constexpr Seconds kScaleFloorSeconds = 2.0e-5;  // and in seconds: timers are not better than this
constexpr Seconds kLongestStep = 60.0;
constexpr double kLargestBandwidth = 1.0e13;  // bytes per second
constexpr double kCopyMemory = 1.0e9;         // bytes of copies that the bandwidth is averaged over
constexpr Tokens kLargestLoad = Tokens{1} << 30;

Vector features_of(const StepLoad& load) {
  return {1.0, static_cast<double>(load.prefill_tokens) / kScale[1],
          static_cast<double>(load.decode_seqs) / kScale[2],
          static_cast<double>(load.context_tokens) / kScale[3]};
}

Vector times(const Matrix& matrix, const Vector& vector) {
  Vector product{};
  for (std::size_t row = 0; row < kSize; ++row) {
    for (std::size_t column = 0; column < kSize; ++column) {
      product[row] += matrix[row * kSize + column] * vector[column];
    }
  }
  return product;
}

double dot(const Vector& a, const Vector& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < kSize; ++i) sum += a[i] * b[i];
  return sum;
}

// Inverse of a positive definite matrix, by Gauss-Jordan elimination (no pivoting is needed).
Matrix inverse_of(Matrix matrix) {
  for (std::size_t pivot = 0; pivot < kSize; ++pivot) {
    const double scale = 1.0 / matrix[pivot * kSize + pivot];
    matrix[pivot * kSize + pivot] = 1.0;
    for (std::size_t j = 0; j < kSize; ++j) matrix[pivot * kSize + j] *= scale;
    for (std::size_t row = 0; row < kSize; ++row) {
      if (row == pivot) continue;
      const double factor = matrix[row * kSize + pivot];
      matrix[row * kSize + pivot] = 0.0;
      for (std::size_t j = 0; j < kSize; ++j) {
        matrix[row * kSize + j] -= factor * matrix[pivot * kSize + j];
      }
    }
  }
  return matrix;
}

// Moves each weight outside its range to the nearer end, and the others to where they fit best
// given that (their conditional mean), so that a step that cannot be explained by one is by the
// others.
void keep_within_range(const Matrix& covariance, Vector& weights) {
  const auto nearest = [&weights](std::size_t i) {
    return std::clamp(weights[i], 0.0, kLargest[i] * kScale[i]);
  };
  for (std::size_t i = 0; i < kSize; ++i) {
    const double moved = nearest(i) - weights[i];
    if (moved == 0.0) continue;
    for (std::size_t j = 0; j < kSize; ++j) {
      weights[j] += moved * covariance[j * kSize + i] / covariance[i * kSize + i];
    }
  }
  for (std::size_t i = 0; i < kSize; ++i) weights[i] = nearest(i);
}

}  // namespace

CostModel::CostModel(const CostParameters& start) : parameters_(start) {
  static_assert(kFeatures == kSize);
  require_in_range("base", start.base, 0.0, kLargest[0]);
  require_in_range("per_prefill", start.per_prefill, 0.0, kLargest[1]);
  require_in_range("per_decode", start.per_decode, 0.0, kLargest[2]);
  require_in_range("per_context", start.per_context, 0.0, kLargest[3]);
  require_in_range("swap_bytes_per_s", start.swap_bytes_per_s, 0.0, kLargestBandwidth);
  require_in_range("kv_bytes_per_token", static_cast<double>(start.kv_bytes_per_token), 0.0,
                   1073741824.0);
  for (std::size_t i = 0; i < kSize; ++i) information_[i * kSize + i] = kPriorInformation;
  residual_scale_ = kFirstScale * start.base;
}

void CostModel::observe_step(const StepLoad& load, Seconds measured) {
  const auto possible = [](Tokens count) { return count >= 0 && count <= kLargestLoad; };
  const bool valid = measured > 0.0 && measured <= kLongestStep && possible(load.prefill_tokens) &&
                     possible(load.decode_seqs) && possible(load.context_tokens) &&
                     (load.prefill_tokens > 0 || load.decode_seqs > 0);
  if (!valid) {
    ++rejected_;
    return;
  }
  const double error = std::abs(measured - step_time(load)) / measured;
  relative_error_ =
      observed_ == 0 ? error : relative_error_ + kErrorRate * (error - relative_error_);
  ++observed_;
  fit(features_of(load), measured);
}

// Averaged over bytes, not copies: small ones, whose start-up time is most of them, hardly count.
void CostModel::observe_copy(Bytes bytes, Seconds measured) {
  if (bytes <= 0 || !(measured > 0.0) || measured > kLongestStep) return;
  const double seen = std::min(static_cast<double>(bytes) / measured, kLargestBandwidth);
  if (parameters_.swap_bytes_per_s <= 0.0) {
    parameters_.swap_bytes_per_s = seen;
    return;
  }
  const double weight = static_cast<double>(bytes) / (static_cast<double>(bytes) + kCopyMemory);
  parameters_.swap_bytes_per_s += weight * (seen - parameters_.swap_bytes_per_s);
}

void CostModel::fit(const std::array<double, kFeatures>& features, double measured) {
  Vector weights = {parameters_.base, parameters_.per_prefill, parameters_.per_decode,
                    parameters_.per_context};
  for (std::size_t i = 0; i < kSize; ++i) weights[i] *= kScale[i];

  const double error = measured - dot(weights, features);
  const double scale =
      std::max({residual_scale_, kScaleFloor * (measured - error), kScaleFloorSeconds});
  const double limit = kHuber * scale;
  residual_scale_ = scale + kScaleRate * (std::min(std::abs(error), limit) - scale);

  const Matrix covariance = inverse_of(information_);
  const Vector gain = times(covariance, features);
  const double step = std::clamp(error, -limit, limit) / (1.0 + dot(features, gain));
  for (std::size_t i = 0; i < kSize; ++i) weights[i] += gain[i] * step;
  keep_within_range(covariance, weights);

  // What was known fades towards the little that was known at the start, not to nothing: however
  // long the same step repeats, what it leaves out stays bounded. A clipped step informs less.
  const double trust = limit / std::max(std::abs(error), limit);
  for (std::size_t i = 0; i < kSize; ++i) {
    for (std::size_t j = 0; j < kSize; ++j) {
      double& entry = information_[i * kSize + j];
      entry = kForgetting * entry + trust * features[i] * features[j];
    }
    information_[i * kSize + i] += (1.0 - kForgetting) * kPriorInformation;
  }

  parameters_.base = weights[0] / kScale[0];
  parameters_.per_prefill = weights[1] / kScale[1];
  parameters_.per_decode = weights[2] / kScale[2];
  parameters_.per_context = weights[3] / kScale[3];
}

Seconds CostModel::step_time(const StepLoad& load) const {
  return parameters_.base + static_cast<double>(load.prefill_tokens) * parameters_.per_prefill +
         static_cast<double>(load.decode_seqs) * parameters_.per_decode +
         static_cast<double>(load.context_tokens) * parameters_.per_context;
}

Seconds CostModel::recompute_time(Tokens tokens, Tokens chunk) const {
  if (tokens <= 0) return 0.0;
  const double count = static_cast<double>(tokens);
  const double steps = count / static_cast<double>(chunk);
  // Half of the tokens, on average, are already there to be attended to by a step's chunk.
  return count * parameters_.per_prefill +
         steps * (parameters_.base + 0.5 * count * parameters_.per_context);
}

Seconds CostModel::swap_time(Tokens tokens) const {
  if (parameters_.swap_bytes_per_s <= 0.0 || parameters_.kv_bytes_per_token <= 0) return kForever;
  if (tokens <= 0) return 0.0;
  return static_cast<double>(tokens) * static_cast<double>(parameters_.kv_bytes_per_token) /
         parameters_.swap_bytes_per_s;
}

}  // namespace lamps
