// SPDX-License-Identifier: Apache-2.0
// The rank of a request: the area under its memory-over-time curve from now to the end of its next
// call (LAMPS, arXiv 2410.18248, section 4; here with decode time, actual context and the sessions'
// further segments, which the released code leaves out).
#pragma once

#include "lamps/cost_model.h"
#include "lamps/types.h"

namespace lamps {

struct Outlook {
  Tokens context_tokens = 0;               // KV the request needs before it decodes (its prompt)
  Tokens cached_tokens = 0;                // of these, already in memory, [0, context_tokens]
  Tokens host_tokens = 0;                  // of the rest, to be loaded from the host
  double output_tokens = 0;                // expected tokens still to decode, >= 0
  Handling handling = Handling::kDiscard;  // during the call that follows
  Seconds call_seconds = 0;                // expected duration of that call
  double p_return = 0;                     // probability that a call follows, [0, 1]
  double further_segments = 0;             // expected segments of the session after that call, >= 0
};

// Seconds of engine time one decoded token takes at the current batch: `decode_step`.
// Loading what is on the host, and prefill of the rest at the cost model's rate, the context
// growing linearly from the cached part to the whole; decode at one token per step, growing by one
// per step; the call at full context if preserved, its recomputation if discarded, its two copies
// if swapped, all times p_return; further segments as repetitions of this one's decode and call.
[[nodiscard]] TokenSeconds memory_over_time(const Outlook& outlook, const CostModel& cost,
                                            Seconds decode_step, Tokens chunk);

}  // namespace lamps
