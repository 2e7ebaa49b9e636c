// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "sim/waiting_line.h"

namespace lamps::sim {
namespace {

std::vector<TurnId> drain(WaitingLine& line) {
  std::vector<TurnId> order;
  for (; line.first() != kNoHandle; line.pop()) order.push_back(line.first());
  return order;
}

TEST(WaitingLine, FcfsPutsThePreemptedFirst) {
  WaitingLine line(Scheduling::kFcfs);
  for (const TurnId turn : {5, 3, 4}) line.add(turn, turn);
  line.put_back(9, 9);
  line.put_back(8, 8);
  EXPECT_EQ(line.size(), 5U);
  EXPECT_EQ(drain(line), (std::vector<TurnId>{8, 9, 5, 3, 4}));
  EXPECT_EQ(line.size(), 0U);
}

TEST(WaitingLine, PriorityGoesByNumberOfTheSession) {
  WaitingLine line(Scheduling::kPriority);
  line.add(1, 30);
  line.add(2, 10);
  line.put_back(3, 20);
  line.add(4, 5);
  line.remove(4, 5);
  EXPECT_EQ(line.size(), 3U);
  EXPECT_EQ(drain(line), (std::vector<TurnId>{2, 3, 1}));
}

TEST(WaitingLine, TheCoreSaysWhoMayEnter) {
  WaitingLine line(Scheduling::kCore);
  for (const TurnId turn : {1, 2, 3}) line.add(turn, turn);
  EXPECT_EQ(line.first(), kNoHandle);
  const std::vector<TurnId> lane = {3, 1};
  line.open(lane);
  line.put_back(7, 7);  // preempted: not in this step
  EXPECT_EQ(drain(line), lane);
  EXPECT_EQ(line.size(), 2U);
  line.open({});
  EXPECT_EQ(line.first(), kNoHandle);
}

TEST(WaitingLine, WhoWasSkippedKeepsItsPlace) {
  for (const Scheduling each : {Scheduling::kFcfs, Scheduling::kPriority}) {
    WaitingLine line(each);
    for (const TurnId turn : {1, 2, 3, 4}) line.add(turn, turn);
    line.skip();
    line.skip();
    EXPECT_EQ(line.first(), 3);
    line.pop();
    EXPECT_EQ(line.size(), 3U);
    EXPECT_EQ(line.end_step(), (std::vector<TurnId>{1, 2}));
    EXPECT_TRUE(line.end_step().empty());
    EXPECT_EQ(drain(line), (std::vector<TurnId>{1, 2, 4}));
  }
}

}  // namespace
}  // namespace lamps::sim
