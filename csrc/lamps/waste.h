// SPDX-License-Identifier: Apache-2.0
// The three wastes of a call (InferCept, arXiv 2402.01869, equations for preserve, discard and
// swap; restated here for prefix caching and for memory that nobody else wants).
#pragma once

#include "lamps/cost_model.h"
#include "lamps/types.h"

namespace lamps {

// What a handling is judged by. All token counts are unique KV tokens: blocks shared with other
// live sessions cost nothing to keep and are not lost when this session lets go.
struct PauseContext {
  Tokens context_tokens = 0;  // C: unique tokens the paused session holds
  Tokens other_tokens = 0;    // C_other: tokens of the other residents, delayed by recomputation
  Seconds expected_remaining = 0;  // E[T | elapsed]: seconds of call still to come
  double p_return = 1.0;           // probability that the session returns at all, [0, 1]
  double pressure = 1.0;           // how much the memory is wanted by others, [0, 1]
  double loss_share = 1.0;  // share of freed blocks expected to be evicted by the return, [0, 1]
  Tokens chunk = 2048;      // prefill tokens a step may hold, > 0
  bool host_memory_free = false;  // room for the session in host memory
  bool on_host = false;           // a copy is there already: letting go costs a load at most
};

// What it costs not to keep the KV, in parts, since they fall due at different moments.
struct Loss {
  TokenSeconds drop = 0;      // if the session returns: t_rc * (C/2 + C_other) * loss_share; with a
                              // copy on the host at most t_in * C
  TokenSeconds swap_out = 0;  // at once: t_out * C; kForever if there is no bandwidth or host room
  TokenSeconds swap_in = 0;   // if the session returns: t_in * C
};

[[nodiscard]] Loss loss_of(const PauseContext& pause, const CostModel& cost);

struct Waste {
  TokenSeconds preserve = 0;  // C * E[T] * pressure
  TokenSeconds discard = 0;   // p_return * drop
  TokenSeconds swap = 0;      // swap_out + p_return * swap_in
};

[[nodiscard]] Waste waste_of(const PauseContext& pause, const CostModel& cost);

// The handling that wastes least; ties go to preserve, then swap (the reversible ones first).
[[nodiscard]] Handling least_waste(const Waste& waste);

}  // namespace lamps
