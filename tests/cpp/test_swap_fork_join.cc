// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "expect_error.h"
#include "lamps/errors.h"
#include "swap/cpu_backend.h"
#include "swap/fork_join.h"

namespace lamps::swap {
namespace {

using lamps::testing::error_of;

TEST(ForkJoin, RunsEveryPartOnceAndWaitsForAll) {
  for (const int threads : {1, 2, 5}) {
    ForkJoin team(threads);
    EXPECT_EQ(team.threads(), threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<int> calls(static_cast<std::size_t>(threads));  // one writer each
      team.run([&](int part) { ++calls[static_cast<std::size_t>(part)]; });
      EXPECT_EQ(calls, std::vector<int>(static_cast<std::size_t>(threads), 1));
    }
  }
}

TEST(ForkJoin, EndsWithoutEverHavingRun) { ForkJoin team(4); }

TEST(ForkJoin, RefusesNoThreads) {
  EXPECT_EQ(error_of<InvalidOption>([] { ForkJoin(0); }),
            "copy threads = 0: expected a number in [1, 256]");
}

TEST(SplitEvenly, PartsAreEqualAndTogetherTheWhole) {
  const std::vector<Move> moves = {{0, 5000, 100}, {200, 6000, 1}, {300, 7000, 899}};
  std::vector<std::vector<Move>> parts(4);
  split_evenly(moves, parts);
  EXPECT_EQ(parts[0], (std::vector<Move>{{0, 5000, 100}, {200, 6000, 1}, {300, 7000, 149}}));
  EXPECT_EQ(parts[1], (std::vector<Move>{{449, 7149, 250}}));
  EXPECT_EQ(parts[2], (std::vector<Move>{{699, 7399, 250}}));
  EXPECT_EQ(parts[3], (std::vector<Move>{{949, 7649, 250}}));
  split_evenly(std::vector<Move>{{0, 9, 2}}, parts);  // fewer bytes than parts
  EXPECT_EQ(parts[1], (std::vector<Move>{{1, 10, 1}}));
  EXPECT_TRUE(parts[3].empty());
  split_evenly({}, parts);
  EXPECT_TRUE(parts[0].empty());
}

}  // namespace
}  // namespace lamps::swap
