// SPDX-License-Identifier: Apache-2.0
// `infercept`: least waste with first come, first served by session (InferCept, arXiv 2402.01869,
// and its released code). Every pause begins by keeping its KV. In every step the waste of keeping
// and of letting go is weighed anew; of all paused sessions, those that had better be let go are,
// except the one with the largest waste: it stays until its memory is needed, and then goes first.
#pragma once

#include <utility>

#include "lamps/policies/rules.h"

namespace lamps {

class InferceptRules : public Rules {
 public:
  using Rules::Rules;

  // Turns whose KV is here < turns whose KV is on the host < the rest, each by session arrival.
  [[nodiscard]] ReadyKey key_of(const Request& request) const override;

  [[nodiscard]] bool keeps() const override { return true; }
  [[nodiscard]] Verdict decide(Seconds now, SessionHandle handle) const override;
  [[nodiscard]] std::vector<Overruled> overruled(Seconds now) const override;
  [[nodiscard]] std::vector<SessionHandle> release_order(Seconds now) const override;

  [[nodiscard]] bool orders_running() const override { return true; }
  void order_running(std::vector<RequestHandle>& running) const override {
    oldest_session_first(running);
  }

 protected:
  struct Weighed {
    SessionHandle session;
    Handling handling;
    TokenSeconds waste;
  };
  [[nodiscard]] virtual Weighed weigh(Seconds now, SessionHandle handle) const;

 private:
  [[nodiscard]] std::pair<std::vector<Weighed>, TokenSeconds> weigh_all(Seconds now) const;
};

}  // namespace lamps
