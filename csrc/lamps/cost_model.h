// SPDX-License-Identifier: Apache-2.0
// What a step, a recomputation and a copy cost on this deployment, calibrated while it serves.
//
// Step time is linear in what the step does:
//   t_step = base + prefill_tokens * per_prefill + decode_seqs * per_decode
//                 + context_tokens * per_context
// (a roofline seen from far away: weights are read once per step, compute grows with prefill
// tokens, sampling with sequences, attention reads with context). Coefficients are fitted by
// recursive least squares with forgetting, never below zero, with outliers clipped (Huber): one
// stall does not ruin the model.
#pragma once

#include <array>

#include "lamps/types.h"

namespace lamps {

struct StepLoad {
  Tokens prefill_tokens = 0;  // prompt tokens computed in the step
  Tokens decode_seqs = 0;     // sequences that produced a token
  Tokens context_tokens = 0;  // KV tokens attended to by the sequences of the step
};

struct CostParameters {
  Seconds base = 0.010;           // [0, 10]      s per step
  Seconds per_prefill = 1.0e-4;   // [0, 1]       s per prompt token
  Seconds per_decode = 3.0e-4;    // [0, 1]       s per decoding sequence
  Seconds per_context = 0.0;      // [0, 1e-3]    s per context token
  double swap_bytes_per_s = 0.0;  // [0, 1e13]    host<->device bandwidth; 0: not known, no swap
  Bytes kv_bytes_per_token = 0;   // [0, 2^30]
};

class CostModel {
 public:
  // Throws InvalidOption naming the parameter that is outside its range.
  explicit CostModel(const CostParameters& start);

  // One measured step. Ignored (and counted in rejected_steps()) unless 0 < measured <= 60 s, every
  // count of the load is in [0, 2^30], and it has a prefill token or a decoding sequence.
  void observe_step(const StepLoad& load, Seconds measured);

  // One measured copy between GPU and host, either way. Ignored unless bytes > 0 and 0 < measured
  // <= 60 s.
  void observe_copy(Bytes bytes, Seconds measured);

  [[nodiscard]] Seconds step_time(const StepLoad& load) const;
  // Seconds of engine time to compute `tokens` prompt tokens anew, chunked into steps that are
  // shared with running sequences: the marginal cost, plus the base cost of the steps it fills.
  // `chunk` > 0: tokens of prefill a step may hold.
  [[nodiscard]] Seconds recompute_time(Tokens tokens, Tokens chunk) const;
  // Seconds of one copy between GPU and host; kForever when the bandwidth or the bytes per
  // token are not known.
  [[nodiscard]] Seconds swap_time(Tokens tokens) const;

  [[nodiscard]] const CostParameters& parameters() const { return parameters_; }
  // Relative error |measured - predicted| / measured, exponentially averaged; for the report.
  [[nodiscard]] double relative_error() const { return relative_error_; }
  [[nodiscard]] long observed_steps() const { return observed_; }
  [[nodiscard]] long rejected_steps() const { return rejected_; }

 private:
  static constexpr int kFeatures = 4;
  void fit(const std::array<double, kFeatures>& features, double measured);

  CostParameters parameters_;
  std::array<double, kFeatures * kFeatures> information_{};  // inverse covariance of the fit
  double residual_scale_ = 0.0;
  double relative_error_ = 0.0;
  long observed_ = 0;
  long rejected_ = 0;
};

}  // namespace lamps
