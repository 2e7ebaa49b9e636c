// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "lamps/level_table.h"

namespace lamps {
namespace {

TEST(LevelTable, MakesLevelsWhenFirstAskedFor) {
  LevelTable table(LogHistogram(1.0, 10.0, 1.0), 100, 3);
  EXPECT_EQ(table.find(5), nullptr);
  Level* five = table.at(5);
  ASSERT_NE(five, nullptr);
  EXPECT_EQ(table.find(5), five);
  EXPECT_EQ(table.at(5), five);
  EXPECT_EQ(table.find(4), nullptr);
  EXPECT_EQ(table.size(), 1u);
  EXPECT_EQ(table.key_of(0), 5u);
}

TEST(LevelTable, HasABoundAndARange) {
  LevelTable table(LogHistogram(1.0, 10.0, 1.0), 100, 3);
  for (const std::size_t key : {7u, 99u, 0u}) EXPECT_NE(table.at(key), nullptr);
  EXPECT_EQ(table.at(8), nullptr) << "a fourth";
  EXPECT_NE(table.at(99), nullptr) << "those that are there stay";
  LevelTable roomy(LogHistogram(1.0, 10.0, 1.0), 100, 200);
  EXPECT_EQ(roomy.at(100), nullptr);
  EXPECT_EQ(roomy.find(100'000), nullptr);
}

TEST(LevelTable, LevelsStayWhereTheyAre) {
  LevelTable table(LogHistogram(1.0, 10.0, 1.0), 1000, 1000);
  Level* first = table.at(500);
  for (std::size_t key = 0; key < 1000; ++key) table.at(key);
  EXPECT_EQ(table.find(500), first);
}

}  // namespace
}  // namespace lamps
