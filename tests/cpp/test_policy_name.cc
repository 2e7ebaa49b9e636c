// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "expect_error.h"
#include "lamps/errors.h"
#include "lamps/options.h"
#include "lamps/policy_name.h"

namespace lamps {
namespace {

using testing::error_of;

TEST(PolicyName, EveryNameIsReadBack) {
  std::set<std::string_view> names;
  for (const NamedPolicy& each : kPolicies) {
    EXPECT_EQ(policy_named(each.name), each.policy);
    EXPECT_EQ(to_string(each.policy), each.name);
    names.insert(each.name);
  }
  EXPECT_EQ(names.size(), kPolicies.size());
}

TEST(PolicyName, TheDefaultIsFirst) { EXPECT_EQ(kPolicies.front().policy, Options{}.policy); }

TEST(PolicyName, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  EXPECT_EQ(
      error_of<InvalidOption>([] { (void)policy_named("lifo"); }),
      "policy = 'lifo': expected one of lamps, fcfs, session-fcfs, sjf, sjf-total, infercept, "
      "lamps-paper, mars-code, continuum, thunder, plas");
}

}  // namespace
}  // namespace lamps
