// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sim/slots.h"

namespace lamps::sim {
namespace {

class Slots : public ::testing::Test {
 protected:
  std::int32_t take() { return take_slot(rows, idle); }

  std::vector<std::string> rows;
  std::vector<std::int32_t> idle;
};

TEST_F(Slots, AnEmptyTableGrows) {
  EXPECT_EQ(take(), 0);
  EXPECT_EQ(take(), 1);
  EXPECT_EQ(rows.size(), 2U);
  EXPECT_TRUE(idle.empty());
}

TEST_F(Slots, TheLastFreedIsUsedFirst) {
  for (int i = 0; i < 3; ++i) (void)take();
  idle.push_back(0);
  idle.push_back(2);
  EXPECT_EQ(take(), 2);
  EXPECT_EQ(take(), 0);
  EXPECT_EQ(take(), 3);
  EXPECT_EQ(rows.size(), 4U);
}

TEST_F(Slots, ARowKeepsWhatWasInIt) {
  rows[static_cast<std::size_t>(take())] = "kept";
  idle.push_back(0);
  EXPECT_EQ(rows[static_cast<std::size_t>(take())], "kept");
}

}  // namespace
}  // namespace lamps::sim
