// SPDX-License-Identifier: Apache-2.0
#include "lamps/policy_name.h"

#include <string>

#include "lamps/errors.h"

namespace lamps {

std::string_view to_string(PolicyName policy) {
  for (const NamedPolicy& each : kPolicies) {
    if (each.policy == policy) return each.name;
  }
  return "?";
}

PolicyName policy_named(std::string_view name) {
  std::string accepted;
  for (const NamedPolicy& each : kPolicies) {
    if (each.name == name) return each.policy;
    accepted += accepted.empty() ? "" : ", ";
    accepted += each.name;
  }
  throw InvalidOption("policy = '" + std::string(name) + "': expected one of " + accepted);
}

}  // namespace lamps
