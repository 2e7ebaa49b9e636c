// SPDX-License-Identifier: Apache-2.0
#include "lamps/memory_time.h"

namespace lamps {
namespace {

// The memory a call costs at full context, given that it happens.
TokenSeconds call_area(const Outlook& outlook, const CostModel& cost, double full, Tokens chunk) {
  const Tokens whole = static_cast<Tokens>(full);
  switch (outlook.handling) {
    case Handling::kPreserve:
      return outlook.call_seconds * full;
    case Handling::kDiscard:  // nothing is held during the call; the context grows back after it
      return cost.recompute_time(whole, chunk) * 0.5 * full;
    case Handling::kSwap:  // held while it is copied out, and again while it is copied in
      return 2.0 * cost.swap_time(whole) * full;
  }
  return 0.0;
}

}  // namespace

TokenSeconds memory_over_time(const Outlook& outlook, const CostModel& cost, Seconds decode_step,
                              Tokens chunk) {
  const double context = static_cast<double>(outlook.context_tokens);
  const double cached = static_cast<double>(outlook.cached_tokens);
  const double output = outlook.output_tokens;

  const Tokens loaded = cost.swap_time(1) < kForever ? outlook.host_tokens : 0;
  const Seconds prefill_time =
      cost.recompute_time(outlook.context_tokens - outlook.cached_tokens - loaded, chunk) +
      (loaded > 0 ? cost.swap_time(loaded) : 0.0);
  const TokenSeconds prefill = prefill_time * 0.5 * (cached + context);
  const TokenSeconds decode = decode_step * output * (context + 0.5 * output);
  // A call that never comes costs nothing, whatever its handling would (kForever * 0 is not 0).
  const TokenSeconds call =
      outlook.p_return > 0.0 ? outlook.p_return * call_area(outlook, cost, context + output, chunk)
                             : 0.0;
  const TokenSeconds segment = decode + call;
  const TokenSeconds further =
      outlook.further_segments > 0.0 ? outlook.further_segments * segment : 0.0;
  return prefill + segment + further;
}

}  // namespace lamps
