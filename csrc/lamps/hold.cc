// SPDX-License-Identifier: Apache-2.0
#include "lamps/hold.h"

#include <algorithm>
#include <cmath>

namespace lamps {

Hold best_hold(double holding, TokenSeconds lost, double p_return, StillOut still_out,
               Seconds shortest, Seconds longest) {
  constexpr int kGrid = 24;
  Hold best{0.0, lost * p_return};
  const double ratio = std::pow(std::max(longest / shortest, 1.0), 1.0 / (kGrid - 1));
  TokenSeconds held = 0.0;
  Seconds last = 0.0;
  double last_out = 1.0;
  Seconds tau = shortest;
  for (int i = 0; i < kGrid; ++i, tau *= ratio) {
    const double survival = still_out(tau);
    const double out = p_return * survival + (1.0 - p_return);
    held += holding * 0.5 * (out + last_out) * (tau - last);
    const TokenSeconds waste = held + lost * p_return * survival;
    if (waste <= best.waste) best = {tau, waste};
    last = tau;
    last_out = out;
  }
  return best;
}

}  // namespace lamps
