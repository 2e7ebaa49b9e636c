// SPDX-License-Identifier: Apache-2.0
// The policies that can be chosen by name; csrc/lamps/policies/ has one small file for each.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace lamps {

enum class PolicyName : std::uint8_t {
  kLamps,
  kFcfs,
  kSessionFcfs,
  kSjf,
  kSjfTotal,
  kInfercept,
  kLampsPaper,
  kMarsCode,
  kContinuum,
  kThunder,
  kPlas
};

struct NamedPolicy {
  PolicyName policy;
  std::string_view name;
};

// The default first.
inline constexpr std::array<NamedPolicy, 11> kPolicies = {{
    {PolicyName::kLamps, "lamps"},
    {PolicyName::kFcfs, "fcfs"},
    {PolicyName::kSessionFcfs, "session-fcfs"},
    {PolicyName::kSjf, "sjf"},
    {PolicyName::kSjfTotal, "sjf-total"},
    {PolicyName::kInfercept, "infercept"},
    {PolicyName::kLampsPaper, "lamps-paper"},
    {PolicyName::kMarsCode, "mars-code"},
    {PolicyName::kContinuum, "continuum"},
    {PolicyName::kThunder, "thunder"},
    {PolicyName::kPlas, "plas"},
}};

[[nodiscard]] std::string_view to_string(PolicyName policy);
// Throws InvalidOption naming the accepted names.
[[nodiscard]] PolicyName policy_named(std::string_view name);

}  // namespace lamps
