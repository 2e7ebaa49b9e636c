// SPDX-License-Identifier: Apache-2.0
// What the tests of the policy core talk about: an engine, turns, steps, pauses, a crowd.
#pragma once

#include <vector>

#include "lamps/policy.h"

namespace lamps::testing {

inline constexpr Tokens kCapacity = 4096;
inline constexpr Engine kEngine{
    .capacity_tokens = kCapacity, .block_tokens = 16, .max_context = 4096, .step_tokens = 2048};

inline Options oldest_first() {
  Options options;
  options.rank_weight = 0.0;
  return options;
}

inline Engine engine_with(Tokens host) {
  Engine engine = kEngine;
  engine.host_tokens = host;
  return engine;
}

// Computing a token takes 10 ms, copying it 1 ms.
inline Options swap_pays() {
  Options options = oldest_first();
  options.cost.per_prefill = 1e-2;
  options.cost.swap_bytes_per_s = 1e6;
  options.cost.kv_bytes_per_token = 1000;
  return options;
}

// Copying a token takes ten times as long as computing it.
inline Options slow_link() {
  Options options = swap_pays();
  options.cost.swap_bytes_per_s = 1e4;
  return options;
}

inline Arrival turn(RequestHandle request, SessionHandle session, Tokens prompt) {
  return {.request = request,
          .session = session,
          .prompt_tokens = prompt,
          .shared_tokens = 0,
          .hints = {.output_tokens = 32.0, .call_seconds = -1.0, .tool = {}, .final_turn = false}};
}

inline StepView step_at(Seconds now, Tokens free_tokens, std::int64_t slots = 64) {
  return {.now = now,
          .free_tokens = free_tokens,
          .step_tokens = 2048,
          .slots = slots,
          .running = {},
          .context = {}};
}

inline Finish end_of(RequestHandle request, Tokens context, Tokens held) {
  return {.request = request,
          .output_tokens = 32,
          .context_tokens = context,
          .held_tokens = held,
          .aborted = false};
}

// A session whose first turn is over and whose KV is kept.
inline void pause_session(PolicyCore& core, Seconds now, SessionHandle session, Tokens context) {
  const RequestHandle request = session;
  core.arrive(now, turn(request, session, context - 32));
  core.admitted(now, request, 0);
  core.finished(now, end_of(request, context, context));
}

using Handles = std::vector<RequestHandle>;

// Twice the pool is wanted for longer than the pressure is averaged over. Uses handles from 90 on.
inline void crowd(PolicyCore& core, Seconds from) {
  for (RequestHandle i = 90; i < 94; ++i) core.arrive(from, turn(i, i, 3000));
  for (int i = 0; i < 20; ++i) (void)core.begin_step(step_at(from + i, 0, 0));
}

}  // namespace lamps::testing
