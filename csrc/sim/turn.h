// SPDX-License-Identifier: Apache-2.0
// One request of a session, as the client sends it and as an engine serves it.
#pragma once

#include <cstdint>
#include <limits>

#include "lamps/policy.h"
#include "lamps/types.h"
#include "sim/block_pool.h"

namespace lamps::sim {

// Dense handles: of a session that has not ended (given out by the simulation), and of a turn in an
// engine (it is the request handle of the policy core, too).
using ClientId = std::int32_t;
using TurnId = RequestHandle;

inline constexpr Seconds kNever = std::numeric_limits<Seconds>::quiet_NaN();
// Of the call that a turn's tokens show: nobody looks for one.
inline constexpr std::int32_t kNotRead = -2;

struct TurnRequest {
  ClientId client = kNoHandle;
  std::int64_t number = 0;         // running number of the session: its priority in stock vLLM
  std::int64_t record = 0;         // the simulation's note, handed back at the end
  Tokens prompt_tokens = 0;        // whole context so far and the new tokens, > 0
  Tokens output_tokens = 0;        // > 0
  Tokens known_tokens = 0;         // of the prompt: KV that some engine has computed before
  std::int32_t group = kNoHandle;  // sessions that share leading tokens
  Tokens shared_tokens = 0;        // how many; less than the session's first prompt
  std::int32_t tool = kNoHandle;   // class of the call that follows
  bool names_tool = false;         // the client says which tool
  std::int32_t called = kNotRead;  // class of the call that the tokens show; kNoHandle: none
  double hint_output = -1.0;       // see TurnHints
  Seconds hint_call = -1.0;
  bool hint_final = false;
};

// Aligned so that a step that decodes touches one cache line per turn.
struct alignas(64) Turn {
  Tokens computed = 0;  // KV positions scheduled so far
  Tokens tokens = 0;    // prompt and output known so far; the last one has no KV yet
  Tokens target = 0;    // tokens at the end
  Tokens room = 0;      // KV positions in its blocks
  Tokens hash_at = 0;   // computed positions at which its next block is full
  Tokens known = 0;     // positions that were computed before, here or elsewhere
  Tokens prompt = 0;
  std::int32_t placeholders = 0;  // output tokens of steps in flight, one each
  bool running = false;
  // End of the line.

  Tokens in_flight = 0;      // tokens of steps in flight, where steps are planned ahead ...
  Tokens stale = 0;          // ... of these, from before it was preempted
  Blocks hashed = 0;         // of its blocks, those whose content others can find: the leading ones
  Blocks duplicates = 0;     // of these, copies of what somebody else references
  Blocks shared_blocks = 0;  // positions in the group's chain
  ChainId group = kNoChain;
  ChainId chain = kNoChain;
  std::int32_t group_id = kNoHandle;

  ClientId client = kNoHandle;
  std::int64_t number = 0;
  std::int64_t record = 0;
  SessionHandle session = kNoHandle;  // of the policy core
  std::int32_t tool = kNoHandle;
  std::int32_t called = kNotRead;
  bool final_hint = false;

  Tokens cached = 0;      // found in the pool when it first started
  Tokens loaded = 0;      // from the host tier
  Tokens recomputed = 0;  // positions that had been computed before
  std::int32_t preemptions = 0;
  Seconds admitted = kNever;
  Seconds first_token = kNever;
  Seconds end = kNever;
};

}  // namespace lamps::sim
