// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "expect_error.h"
#include "lamps/errors.h"
#include "lamps/ready_queue.h"

namespace lamps {
namespace {

using testing::error_of;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<RequestHandle> drain(ReadyQueue& queue) {
  std::vector<RequestHandle> order;
  while (!queue.empty()) order.push_back(queue.pop());
  return order;
}

TEST(ReadyKey, OrdersByClassThenDeadlineThenSequence) {
  const ReadyKey key{1, 5.0, 7};
  EXPECT_TRUE((ReadyKey{0, 9.0, 9} < key));
  EXPECT_TRUE((ReadyKey{1, 4.0, 9} < key));
  EXPECT_TRUE((ReadyKey{1, 5.0, 6} < key));
  EXPECT_FALSE(key < key);
  EXPECT_FALSE((ReadyKey{2, 0.0, 0} < key));
}

TEST(ReadyQueue, ServesLowestKeyFirst) {
  ReadyQueue queue;
  queue.push(3, {1, 2.0, 0});
  queue.push(0, {1, 1.0, 1});
  queue.push(7, {0, 9.0, 2});
  queue.push(1, {2, -kForever, 3});
  EXPECT_EQ(queue.top(), 7);
  EXPECT_EQ(queue.size(), 4U);
  EXPECT_EQ(drain(queue), (std::vector<RequestHandle>{7, 0, 3, 1}));
}

TEST(ReadyQueue, EmptyQueueAnswersNoHandle) {
  ReadyQueue queue;
  EXPECT_EQ(queue.top(), kNoHandle);
  EXPECT_EQ(queue.pop(), kNoHandle);
  EXPECT_TRUE(queue.empty());
  EXPECT_TRUE(queue.first(3).empty());
  EXPECT_NO_THROW(queue.check_invariants());
}

TEST(ReadyQueue, EqualKeysAreServedByHandleWhateverTheHistory) {
  std::vector<RequestHandle> handles = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  const std::vector<RequestHandle> sorted = handles;
  std::mt19937 random(3);
  for (int round = 0; round < 20; ++round) {
    std::shuffle(handles.begin(), handles.end(), random);
    ReadyQueue queue;
    for (const RequestHandle handle : handles) queue.push(handle, {1, 1.0, 1});
    EXPECT_EQ(drain(queue), sorted);
  }
}

TEST(ReadyQueue, RekeyMovesBothWays) {
  ReadyQueue queue;
  for (RequestHandle handle = 0; handle < 50; ++handle) {
    queue.push(handle, {1, static_cast<double>(handle), 0});
  }
  queue.rekey(49, {1, -1.0, 0});
  EXPECT_EQ(queue.top(), 49);
  EXPECT_EQ(queue.key_of(49).deadline, -1.0);
  queue.rekey(49, {1, 100.0, 0});
  queue.check_invariants();
  EXPECT_EQ(drain(queue).back(), 49);
}

TEST(ReadyQueue, HandlesAreReusable) {
  ReadyQueue queue;
  queue.push(4, {1, 1.0, 0});
  queue.remove(4);
  EXPECT_FALSE(queue.contains(4));
  queue.push(4, {1, 2.0, 1});
  EXPECT_TRUE(queue.contains(4));
  EXPECT_EQ(queue.key_of(4).deadline, 2.0);
}

TEST(ReadyQueue, FirstLeavesTheQueueAsItIs) {
  ReadyQueue queue;
  for (const RequestHandle handle : {5, 2, 8, 1, 9, 0}) {
    queue.push(handle, {1, static_cast<double>(handle), 0});
  }
  EXPECT_EQ(queue.first(3), (std::vector<RequestHandle>{0, 1, 2}));
  EXPECT_EQ(queue.first(0), (std::vector<RequestHandle>{}));
  EXPECT_EQ(queue.first(99), (std::vector<RequestHandle>{0, 1, 2, 5, 8, 9}));
  EXPECT_EQ(queue.size(), 6U);
}

TEST(ReadyQueue, RefusesUnknownHandles) {
  ReadyQueue queue;
  queue.push(2, {1, 1.0, 0});
  EXPECT_EQ(error_of<UnknownHandle>([&] { queue.push(2, {1, 2.0, 0}); }),
            "request handle 2 is already queued");
  EXPECT_EQ(error_of<UnknownHandle>([&] { queue.push(-1, {1, 2.0, 0}); }),
            "request handle -1 is negative");
  for (const RequestHandle handle : {-1, 0, 3, 1'000'000}) {
    EXPECT_FALSE(queue.contains(handle));
    EXPECT_THROW(queue.rekey(handle, {}), UnknownHandle);
    EXPECT_THROW(queue.remove(handle), UnknownHandle);
    EXPECT_THROW((void)queue.key_of(handle), UnknownHandle);
  }
}

TEST(ReadyQueue, RefusesNanAndStaysAsItWas) {
  ReadyQueue queue;
  queue.push(2, {1, 1.0, 0});
  EXPECT_THROW(queue.push(3, {1, kNan, 0}), InvalidOption);
  EXPECT_THROW(queue.rekey(2, {1, kNan, 0}), InvalidOption);
  EXPECT_FALSE(queue.contains(3));
  EXPECT_EQ(queue.key_of(2).deadline, 1.0);
  queue.check_invariants();
}

// Every operation is also done on an ordered set, and the answers are compared.
class ReadyQueueAgainstSet : public ::testing::TestWithParam<unsigned> {
 protected:
  using Row = std::tuple<int, double, std::uint64_t, RequestHandle>;
  static constexpr RequestHandle kHandles = 700;

  static Row row_of(RequestHandle handle, const ReadyKey& key) {
    return {key.service_class, key.deadline, key.sequence, handle};
  }
  // Few distinct values, so that ties are common.
  ReadyKey random_key() {
    return {static_cast<std::uint8_t>(random_() % 3), static_cast<double>(random_() % 40),
            random_() % 5};
  }
  void put(RequestHandle handle) {
    const ReadyKey key = random_key();
    if (keys_.contains(handle)) {
      queue_.rekey(handle, key);
      model_.erase(row_of(handle, keys_[handle]));
    } else {
      queue_.push(handle, key);
    }
    keys_[handle] = key;
    model_.insert(row_of(handle, key));
  }
  void drop(RequestHandle handle) {
    model_.erase(row_of(handle, keys_[handle]));
    keys_.erase(handle);
  }
  void operate() {
    const auto handle = static_cast<RequestHandle>(random_() % kHandles);
    switch (random_() % 4) {
      case 0:
      case 1:
        put(handle);
        break;
      case 2:
        if (!keys_.contains(handle)) return;
        queue_.remove(handle);
        drop(handle);
        break;
      default: {
        const RequestHandle expected = model_.empty() ? kNoHandle : std::get<3>(*model_.begin());
        ASSERT_EQ(queue_.pop(), expected);
        if (expected != kNoHandle) drop(expected);
      }
    }
  }
  void compare_whole() {
    queue_.check_invariants();
    std::vector<RequestHandle> expected;
    for (const Row& row : model_) expected.push_back(std::get<3>(row));
    ASSERT_EQ(queue_.first(expected.size() + 1), expected);
    expected.resize(std::min<std::size_t>(expected.size(), 5));
    ASSERT_EQ(queue_.first(5), expected);
  }

  ReadyQueue queue_;
  std::set<Row> model_;
  std::map<RequestHandle, ReadyKey> keys_;
  std::mt19937 random_{GetParam()};
};

TEST_P(ReadyQueueAgainstSet, AgreesOverRandomOperations) {
  for (int operation = 0; operation < 100'000; ++operation) {
    operate();
    if (HasFatalFailure()) return;
    ASSERT_EQ(queue_.size(), model_.size());
    ASSERT_EQ(queue_.top(), model_.empty() ? kNoHandle : std::get<3>(*model_.begin()));
    if (operation % 100 == 0) compare_whole();
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ReadyQueueAgainstSet, ::testing::Values(1U, 2U, 3U));

}  // namespace
}  // namespace lamps
