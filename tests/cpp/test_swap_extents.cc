// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <random>

#include "expect_error.h"
#include "lamps/errors.h"
#include "swap/extents.h"

namespace lamps::swap {
namespace {

using lamps::testing::error_of;
using Extents = std::vector<Extent>;

TEST(ExtentPool, GivesOneExtentWhereItCan) {
  ExtentPool pool(100);
  EXPECT_EQ(pool.take(30), (Extents{{0, 30}}));
  EXPECT_EQ(pool.take(70), (Extents{{30, 70}}));
  EXPECT_EQ(pool.free_rows(), 0);
  EXPECT_TRUE(pool.take(1).empty());
}

TEST(ExtentPool, PrefersTheSmallestThatFits) {
  ExtentPool pool(100);
  const Extents all = {pool.take(40)[0], pool.take(10)[0], pool.take(20)[0], pool.take(30)[0]};
  pool.give_back(all[0]);
  pool.give_back(all[2]);
  EXPECT_EQ(pool.take(15), (Extents{{50, 15}}));
  pool.check_invariants();
}

TEST(ExtentPool, JoinsTheFewestExtentsWhenNoneIsLongEnough) {
  ExtentPool pool(100);
  Extents all;
  for (int i = 0; i < 10; ++i) all.push_back(pool.take(10)[0]);
  for (const int i : {1, 2, 3, 6, 7, 9}) pool.give_back(all[static_cast<std::size_t>(i)]);
  EXPECT_EQ(pool.free_extents(), 3U);
  EXPECT_EQ(pool.take(55), (Extents{{10, 30}, {60, 20}, {90, 5}}));
  EXPECT_EQ(pool.free_rows(), 5);
}

TEST(ExtentPool, NeighboursGrowTogether) {
  ExtentPool pool(30);
  const Extents all = {pool.take(10)[0], pool.take(10)[0], pool.take(10)[0]};
  pool.give_back(all[0]);
  pool.give_back(all[2]);
  EXPECT_EQ(pool.free_extents(), 2U);
  pool.give_back(all[1]);
  EXPECT_EQ(pool.free_extents(), 1U);
  EXPECT_EQ(pool.take(30), (Extents{{0, 30}}));
}

TEST(ExtentPool, RefusesWhatIsNotInUse) {
  ExtentPool pool(30);
  (void)pool.take(20);
  const auto refused = [&](Extent extent) {
    return error_of<UnknownHandle>([&] { pool.give_back(extent); });
  };
  EXPECT_EQ(refused({15, 10}), "rows [15, 25): expected rows in use, of 30");
  EXPECT_FALSE(refused({25, 5}).empty());
  EXPECT_FALSE(refused({-1, 5}).empty());
  EXPECT_FALSE(refused({5, 0}).empty());
  pool.give_back({0, 20});
  EXPECT_FALSE(refused({0, 20}).empty());
  EXPECT_FALSE(refused({28, 3}).empty());
  pool.check_invariants();
  EXPECT_EQ(error_of<InvalidOption>([] { ExtentPool(0); }),
            "host rows = 0: expected a number in [1, 1e+15]");
  EXPECT_EQ(error_of<InvalidOption>([&] { (void)pool.take(0); }),
            "rows to take = 0: expected a number in [1, 1e+15]");
}

TEST(ExtentPool, NeverGivesARowTwice) {
  std::mt19937 random(1);
  ExtentPool pool(500);
  std::vector<Extents> held;
  std::vector<bool> used(500);
  const auto mark = [&](const Extents& extents, bool value) {
    for (const Extent& extent : extents) {
      for (Row row = extent.first; row < extent.first + extent.rows; ++row) {
        EXPECT_NE(used[static_cast<std::size_t>(row)], value);
        used[static_cast<std::size_t>(row)] = value;
      }
    }
  };
  for (int round = 0; round < 5000; ++round) {
    if (random() % 2 == 0) {
      const Row rows = 1 + static_cast<Row>(random() % 60);
      const bool fits = rows <= pool.free_rows();
      Extents extents = pool.take(rows);
      EXPECT_EQ(extents.empty(), !fits);
      Row sum = 0;
      for (const Extent& extent : extents) sum += extent.rows;
      EXPECT_EQ(sum, fits ? rows : 0);
      mark(extents, true);
      if (fits) held.push_back(std::move(extents));
    } else if (!held.empty()) {
      std::swap(held[random() % held.size()], held.back());
      mark(held.back(), false);
      for (const Extent& extent : held.back()) pool.give_back(extent);
      held.pop_back();
    }
    pool.check_invariants();
  }
}

}  // namespace
}  // namespace lamps::swap
