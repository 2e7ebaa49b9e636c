// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "lamps/backlog.h"

namespace lamps {
namespace {

TEST(Backlog, IsUnknownUntilSixteenWereLetInBefore) {
  Backlog backlog;
  for (int i = 0; i < 16; ++i) backlog.admitted(i, 5);
  EXPECT_EQ(backlog.drain(), kForever);
}

TEST(Backlog, IsTheWaitingTimesTheTimePerAdmission) {
  Backlog backlog;
  for (int i = 0; i <= 16; ++i) backlog.admitted(0.5 * i, 10);
  EXPECT_DOUBLE_EQ(backlog.drain(), 10 * 0.5);
  backlog.admitted(8.5, 0);
  EXPECT_DOUBLE_EQ(backlog.drain(), 0.0);
}

TEST(Backlog, FollowsTheLastSixteenOnly) {
  Backlog backlog;
  for (int i = 0; i < 40; ++i) backlog.admitted(100.0 * i, 1);
  for (int i = 1; i <= 17; ++i) backlog.admitted(3900.0 + 2.0 * i, 8);
  EXPECT_DOUBLE_EQ(backlog.drain(), 8 * 2.0);
}

TEST(Backlog, OfAnEngineThatLetsAllInAtOnceIsNothing) {
  Backlog backlog;
  for (int i = 0; i <= 16; ++i) backlog.admitted(7.0, 100);
  EXPECT_DOUBLE_EQ(backlog.drain(), 0.0);
}

}  // namespace
}  // namespace lamps
