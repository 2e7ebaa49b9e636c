// SPDX-License-Identifier: Apache-2.0
// How long to keep a paused session's KV: "preserve until tau, then swap or drop", with tau from
// the distribution of what is left of the call, not from its mean. A mean is ruled by the rare long
// calls and would throw away the many that return at once.
#pragma once

#include "lamps/types.h"
#include "lamps/waste.h"

namespace lamps {

// P(the call is still running t seconds from now). A non-owning view of any callable, called
// with t >= 0 ascending.
class StillOut {
 public:
  template <typename Callable>
  StillOut(const Callable& callable)  // NOLINT(google-explicit-constructor): a view
      : object_(&callable), call_([](const void* object, Seconds t) {
          return (*static_cast<const Callable*>(object))(t);
        }) {}
  double operator()(Seconds t) const { return call_(object_, t); }

 private:
  const void* object_;
  double (*call_)(const void*, Seconds);
};

struct Hold {
  Seconds until = 0;                   // tau from now; 0: let go now
  TokenSeconds waste = 0;              // expected waste of "preserve until tau, then `then`"
  Handling then = Handling::kDiscard;  // the cheaper of swap and discard at tau
};

// Minimises over tau in {0} + a geometric grid over [shortest, longest]:
//   holding * integral_0^tau O(t) dt + min(drop * R(tau), swap_out * O(tau) + swap_in * R(tau)),
// holding: token-seconds per second of keeping (context * pressure); R(t) = p_return * S(t), the
// probability that the session returns, but after t;
// S = still_out, the call's survival given that it returns; O(t) = p_return * S(t) + (1 -
// p_return). Ties go to the longer hold, as keeping what
// costs nothing is free, and to swap, which can be undone.
[[nodiscard]] Hold best_hold(double holding, const Loss& loss, double p_return, StillOut still_out,
                             Seconds shortest, Seconds longest);

}  // namespace lamps
