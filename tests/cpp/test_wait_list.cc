// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <random>

#include "expect_error.h"
#include "lamps/errors.h"
#include "lamps/wait_list.h"

namespace lamps {
namespace {

using testing::error_of;

TEST(WaitList, OldestIsWhoeverWasAddedFirst) {
  WaitList list;
  EXPECT_EQ(list.oldest(), kNoHandle);
  list.add(5, 1.0, 10);
  list.add(2, 1.5, 11);
  list.add(9, 2.5, 11);
  EXPECT_EQ(list.oldest(), 5);
  EXPECT_EQ(list.size(), 3U);
  EXPECT_EQ(list.since(2), 1.5);
  EXPECT_EQ(list.step(2), 11);
  list.remove(5);
  EXPECT_EQ(list.oldest(), 2);
  list.remove(9);  // the last
  list.add(5, 3.0, 12);
  list.remove(2);
  EXPECT_EQ(list.oldest(), 5);
  EXPECT_EQ(list.since(5), 3.0);
  list.remove(5);
  EXPECT_EQ(list.oldest(), kNoHandle);
  EXPECT_EQ(list.size(), 0U);
  list.check_invariants();
}

TEST(WaitList, RemovesFromTheMiddle) {
  WaitList list;
  for (RequestHandle handle = 0; handle < 5; ++handle) list.add(handle, 0.0, 0);
  list.remove(2);
  list.check_invariants();
  EXPECT_FALSE(list.contains(2));
  EXPECT_TRUE(list.contains(1));
  EXPECT_TRUE(list.contains(3));
}

TEST(WaitList, RefusesUnknownHandles) {
  WaitList list;
  list.add(1, 0.0, 0);
  EXPECT_EQ(error_of<UnknownHandle>([&] { list.add(1, 1.0, 1); }),
            "request handle 1 is already listed");
  EXPECT_EQ(error_of<UnknownHandle>([&] { list.add(-2, 1.0, 1); }),
            "request handle -2 is negative");
  for (const RequestHandle handle : {-1, 0, 2, 1'000'000}) {
    EXPECT_FALSE(list.contains(handle));
    EXPECT_THROW(list.remove(handle), UnknownHandle);
    EXPECT_THROW((void)list.since(handle), UnknownHandle);
    EXPECT_THROW((void)list.step(handle), UnknownHandle);
  }
}

TEST(WaitList, InvariantsNoticeAClockThatRanBackwards) {
  WaitList seconds;
  seconds.add(0, 2.0, 1);
  seconds.add(1, 1.0, 2);
  EXPECT_THROW(seconds.check_invariants(), InvariantViolation);
  WaitList steps;
  steps.add(0, 1.0, 2);
  steps.add(1, 2.0, 1);
  EXPECT_THROW(steps.check_invariants(), InvariantViolation);
}

class WaitListAgainstList : public ::testing::TestWithParam<unsigned> {};

TEST_P(WaitListAgainstList, AgreesOverRandomOperations) {
  struct Row {
    RequestHandle handle;
    Seconds since;
    Steps step;
  };
  std::mt19937 random(GetParam());
  WaitList list;
  std::list<Row> model;
  for (int operation = 0; operation < 100'000; ++operation) {
    const auto handle = static_cast<RequestHandle>(random() % 300);
    const auto found = std::find_if(model.begin(), model.end(),
                                    [=](const Row& row) { return row.handle == handle; });
    ASSERT_EQ(list.contains(handle), found != model.end());
    if (found == model.end()) {
      const Row row{handle, 0.25 * (operation / 3), operation / 7};
      list.add(row.handle, row.since, row.step);
      model.push_back(row);
    } else {
      ASSERT_EQ(list.since(handle), found->since);
      ASSERT_EQ(list.step(handle), found->step);
      list.remove(handle);
      model.erase(found);
    }
    ASSERT_EQ(list.size(), model.size());
    ASSERT_EQ(list.oldest(), model.empty() ? kNoHandle : model.front().handle);
    if (operation % 100 == 0) list.check_invariants();
  }
  for (; !model.empty(); model.pop_front()) {
    ASSERT_EQ(list.oldest(), model.front().handle);
    list.remove(list.oldest());
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, WaitListAgainstList, ::testing::Values(1U, 2U, 3U));

}  // namespace
}  // namespace lamps
