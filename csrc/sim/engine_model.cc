// SPDX-License-Identifier: Apache-2.0
#include "sim/engine_model.h"

#include <algorithm>
#include <array>
#include <string>

#include "lamps/errors.h"

namespace lamps::sim {
namespace {

constexpr std::array<std::string_view, 3> kSchedulings = {"core", "fcfs", "priority"};
constexpr std::array<std::string_view, 2> kHostUses = {"offload", "swap"};
constexpr std::array<std::string_view, 3> kRoutings = {"sticky", "round-robin", "least-loaded"};

template <typename Enum>
Enum find(const char* what, std::span<const std::string_view> names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<Enum>(found - names.begin());
  std::string known;
  for (const std::string_view each : names)
    known += (known.empty() ? "" : ", ") + std::string(each);
  throw InvalidOption(std::string(what) + " = \"" + std::string(name) + "\": expected one of " +
                      known);
}

void require(const char* name, Tokens value, double low, double high) {
  require_in_range(name, static_cast<double>(value), low, high);
}

}  // namespace

std::span<const std::string_view> scheduling_names() { return kSchedulings; }
std::span<const std::string_view> routing_names() { return kRoutings; }
std::span<const std::string_view> host_use_names() { return kHostUses; }
Scheduling scheduling_from(std::string_view name) {
  return find<Scheduling>("scheduler", kSchedulings, name);
}
Routing routing_from(std::string_view name) { return find<Routing>("router", kRoutings, name); }

HostUse host_use_from(std::string_view name) { return find<HostUse>("host", kHostUses, name); }

Seconds EngineModel::step_time(Tokens tokens, Tokens requests) const {
  return cost.base + cost.per_prefill * static_cast<double>(tokens - requests) +
         cost.per_decode * static_cast<double>(requests);
}

Seconds EngineModel::attention_time(Tokens tokens, Tokens context) const {
  const auto t = static_cast<double>(tokens), c = static_cast<double>(context);
  const double pairs = tokens > 1 ? t * (c + t / 2) : 0.0;
  return cost.per_context * c + per_prefill_context * pairs;
}

Seconds EngineModel::copy_time(Tokens tokens) const {
  return static_cast<double>(tokens) * static_cast<double>(cost.kv_bytes_per_token) /
         cost.swap_bytes_per_s;
}

void EngineModel::validate() const {
  require("block_tokens", block_tokens, 1, 1 << 20);
  require("max_context", max_context, 2, 1e9);
  require("capacity_tokens", blocks() * block_tokens, static_cast<double>(max_context), 1e12);
  require("step_tokens", step_tokens, 1, 1e9);
  require("max_running", max_running, 1, 1e6);
  require_in_range("idle_step", idle_step, 1e-6, 10.0);
  require("host_tokens", host_tokens, 0, 1e12);
  const CostModel in_range(cost);                   // its constructor checks
  require_in_range("base", cost.base, 1e-6, 10.0);  // time must pass in every step
  require_in_range("per_prefill_context", per_prefill_context, 0.0, 1e-3);
  if (host_tokens > 0) {
    require_in_range("host_bytes_per_s", cost.swap_bytes_per_s, 1.0, 1e13);
    require("kv_bytes_per_token", cost.kv_bytes_per_token, 1, 1 << 30);
  }
}

}  // namespace lamps::sim
