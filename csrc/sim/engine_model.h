// SPDX-License-Identifier: Apache-2.0
// What a simulated engine is: its size, its true step time, and how it schedules.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "lamps/cost_model.h"
#include "lamps/types.h"

namespace lamps::sim {

// Who decides. kCore: a PolicyCore, driven as the vLLM shim drives it. The other two are stock
// vLLM without a core: first come first served, and priority = running number of the session.
enum class Scheduling : std::uint8_t { kCore, kFcfs, kPriority };

// What the host tier is for. kOffload: every full block is copied to it when its turn ends, and
// loaded again on a hit; least recently used chains are dropped first. kSwap: the policy core says
// what goes there and comes back.
enum class HostUse : std::uint8_t { kOffload, kSwap };

// Which engine serves a turn. kSticky: the one that served the session before; its first turn, and
// every turn under kLeastLoaded, goes to the engine with the fewest unfinished turns.
enum class Routing : std::uint8_t { kSticky, kRoundRobin, kLeastLoaded };

[[nodiscard]] std::span<const std::string_view> scheduling_names();  // by enum value
[[nodiscard]] std::span<const std::string_view> routing_names();
[[nodiscard]] std::span<const std::string_view> host_use_names();
[[nodiscard]] Scheduling scheduling_from(std::string_view name);  // throws InvalidOption
[[nodiscard]] Routing routing_from(std::string_view name);
[[nodiscard]] HostUse host_use_from(std::string_view name);

struct EngineModel {
  Tokens capacity_tokens = 0;  // KV positions, rounded down to whole blocks; >= max_context
  Tokens block_tokens = 16;    // [1, 2^20]
  Tokens max_context = 0;      // longest prompt + output, [2, 1e9]
  Tokens step_tokens = 2048;   // tokens one step may compute, [1, 1e9]
  Tokens max_running = 256;    // requests that may run at once, [1, 1e6]

  // True time of a step that computes `t` tokens for `n` requests, each `i` of them `t_i` tokens
  // after `c_i` KV tokens computed before:
  //   base + per_prefill * (t - n) + per_decode * n + sum of
  //   per_context * c_i + (t_i > 1: per_prefill_context * t_i * (c_i + t_i / 2)),
  // the last two being attention. It is what a paced vLLM worker sleeps to, but for one prefill
  // token per prefilling request. swap_bytes_per_s is that of the host tier, one copy at a time in
  // each direction.
  CostParameters cost;
  Seconds per_prefill_context = 0.0;  // per prefill token and KV token it attends to, [0, 1e-3]
  Seconds idle_step = 0.001;  // a step that schedules nothing while somebody waits, [1e-6, 10]

  bool prefix_caching = true;
  bool ahead = false;  // asynchronous scheduling: step k + 1 is planned while step k runs
  Tokens host_tokens =
      0;  // [0, 1e12]; > 0: a host tier, which needs both swap parameters of `cost`
  HostUse host_use = HostUse::kOffload;

  [[nodiscard]] bool offloads() const { return host_tokens > 0 && host_use == HostUse::kOffload; }
  [[nodiscard]] bool swaps() const { return host_tokens > 0 && host_use == HostUse::kSwap; }
  [[nodiscard]] std::int64_t blocks() const { return capacity_tokens / block_tokens; }
  [[nodiscard]] Seconds step_time(Tokens tokens, Tokens requests) const;      // but for attention
  [[nodiscard]] Seconds attention_time(Tokens tokens, Tokens context) const;  // of one request
  [[nodiscard]] Seconds copy_time(Tokens tokens) const;  // between device and host
  void validate() const;                                 // throws InvalidOption
};

}  // namespace lamps::sim
