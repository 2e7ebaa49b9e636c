// SPDX-License-Identifier: Apache-2.0
// `mars-code`: the formulas of the code released with the paper, as they stand there, for
// comparison with `lamps-paper`. In its terms: P = the session's first prompt, L = predicted
// output, T = predicted call, R = tokens a call returns, b = block size, c = tokens a step may
// compute beyond what the running requests take, C_run = KV of the running requests, tok = P + L in
// whole blocks; a, base = seconds per prefill token and per step.
//   waste of keeping    T * tok
//   waste of letting go (a c_max + base) n(n+1)/2 c + a c n C_run + a r (C_run + r),
//                       n = max(ceil(tok/c) - 1, 0), r = tok mod c
//   waste of swapping   F_s n tok + 2 F_c n C_run, n = max(ceil(tok/c) - 1, 1)
//   score               M(N1) + [T tok + M(N2) | M(N1 + N2) | 2 s + 0.1 T + M(N2)], lowest first,
//                       M(N) = F n(n+1)/2 c, n = max(ceil(b N/c), 1), s = N1^2/4,
//                       N1 = ceil((P+L)/b), N2 = ceil((L+R)/b)
// Whoever has not been served once does not age. The handling is chosen when a turn arrives and not
// revised; pauses are let go as in `infercept`, by the waste found then.
#pragma once

#include <vector>

#include "lamps/policies/infercept.h"

namespace lamps {

class MarsCodeRules : public InferceptRules {
 public:
  using InferceptRules::InferceptRules;

  [[nodiscard]] ReadyKey key_of(const Request& request) const override;
  [[nodiscard]] Refresh refresh() const override { return Refresh::kAll; }
  [[nodiscard]] bool ages(const Request& request) const override;
  [[nodiscard]] bool stays_overdue() const override { return true; }

  void on_arrival(Seconds now, const Request& request) override;
  [[nodiscard]] std::vector<SessionHandle> on_step(Seconds now,
                                                   std::span<const RequestHandle> running) override;

 protected:
  [[nodiscard]] Weighed weigh(Seconds now, SessionHandle handle) const override;

 private:
  struct Chosen {
    double first_prompt = 0;
    Handling handling = Handling::kPreserve;
    TokenSeconds waste = 0;
  };
  struct Turn {     // what the code knows of a turn
    double before;  // N1, blocks
    double after;   // N2, blocks
    Seconds call;
    bool last;
  };
  [[nodiscard]] const Chosen& chosen(SessionHandle session) const {
    return chosen_[static_cast<std::size_t>(session)];
  }
  [[nodiscard]] Turn turn_of(const Request& request) const;
  [[nodiscard]] double headroom() const;  // c
  [[nodiscard]] Waste waste_of_call(const Turn& turn) const;
  [[nodiscard]] TokenSeconds growth_area(double blocks) const;  // M(N)

  std::vector<Chosen> chosen_;   // by session
  double inflight_ = 0.0;        // tokens that the running requests compute per step
  double returned_sum_ = 0.0;    // tokens that calls have returned: the code is told R exactly,
  double returned_count_ = 0.0;  // here it is the mean so far
};

}  // namespace lamps
