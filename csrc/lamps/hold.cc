// SPDX-License-Identifier: Apache-2.0
#include "lamps/hold.h"

#include <algorithm>
#include <cmath>

namespace lamps {

namespace {

struct LetGo {
  TokenSeconds waste;
  Handling how;
};

// `returns`, `out`: probabilities that the session returns, and that it has not.
LetGo cheaper(const Loss& loss, double returns, double out) {
  const TokenSeconds drop = loss.drop * returns;
  const TokenSeconds swap =
      loss.swap_out < kForever ? loss.swap_out * out + loss.swap_in * returns : kForever;
  return swap <= drop ? LetGo{swap, Handling::kSwap} : LetGo{drop, Handling::kDiscard};
}

}  // namespace

Hold best_hold(double holding, const Loss& loss, double p_return, StillOut still_out,
               Seconds shortest, Seconds longest) {
  constexpr int kGrid = 24;
  const LetGo now = cheaper(loss, p_return, 1.0);
  Hold best{0.0, now.waste, now.how};
  const double ratio = std::pow(std::max(longest / shortest, 1.0), 1.0 / (kGrid - 1));
  TokenSeconds held = 0.0;
  Seconds last = 0.0;
  double last_out = 1.0;
  Seconds tau = shortest;
  for (int i = 0; i < kGrid; ++i, tau *= ratio) {
    const double survival = still_out(tau);
    const double out = p_return * survival + (1.0 - p_return);
    held += holding * 0.5 * (out + last_out) * (tau - last);
    const LetGo later = cheaper(loss, p_return * survival, out);
    const TokenSeconds waste = held + later.waste;
    if (waste <= best.waste) best = {tau, waste, later.how};
    last = tau;
    last_out = out;
  }
  return best;
}

}  // namespace lamps
