// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "expect_error.h"
#include "lamps/errors.h"
#include "lamps/session_index.h"

namespace lamps {
namespace {

using ::lamps::testing::expect_error;

using Relation = SessionIndex::Relation;
constexpr std::size_t kBlock = 4;
constexpr std::size_t kOpening = SessionIndex::kOpening;

// A prompt of tokens; block hashes stand for all tokens before them.
class Prompt final : public PromptChain {
 public:
  Prompt() = default;
  explicit Prompt(std::vector<std::int32_t> tokens) : tokens_(std::move(tokens)) { rehash(); }
  // Appends `count` tokens that depend on `what` alone.
  Prompt& add(int what, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      tokens_.push_back(what * 100'000 + static_cast<std::int32_t>(i));
    }
    rehash();
    return *this;
  }
  [[nodiscard]] Prompt plus(int what, std::size_t count) const {
    return Prompt(*this).add(what, count);
  }
  [[nodiscard]] Prompt first(std::size_t count) const {
    return Prompt(std::vector<std::int32_t>(tokens_.begin(),
                                            tokens_.begin() + static_cast<std::ptrdiff_t>(count)));
  }
  [[nodiscard]] std::size_t blocks() const override { return hashes_.size(); }
  [[nodiscard]] std::uint64_t hash(std::size_t block) const override {
    ++reads;
    return hashes_.at(block);
  }
  [[nodiscard]] std::size_t tokens() const override { return tokens_.size(); }
  [[nodiscard]] std::int32_t token(std::size_t i) const override { return tokens_.at(i); }

  mutable std::size_t reads = 0;

 private:
  void rehash() {
    std::uint64_t hash = hashes_.empty() ? 1 : hashes_.back();
    for (std::size_t i = hashes_.size() * kBlock; i + kBlock <= tokens_.size(); i += kBlock) {
      for (std::size_t j = i; j < i + kBlock; ++j) {
        hash = (hash ^ static_cast<std::uint32_t>(tokens_[j])) * 0x9e3779b97f4a7c15ULL;
        hash ^= hash >> 29;
      }
      hashes_.push_back(hash);
    }
  }
  std::vector<std::int32_t> tokens_;
  std::vector<std::uint64_t> hashes_;
};

class SessionIndexTest : public ::testing::Test {
 protected:
  void TearDown() override { index_.check_invariants(); }
  // One turn of a session; returns the context at its end.
  Prompt turn(SessionHandle session, const Prompt& prompt, int output, std::size_t tokens = 40) {
    index_.begin(session, prompt);
    Prompt whole = prompt.plus(output, tokens);
    index_.finish(session, whole, false);
    return whole;
  }
  void expect(const Prompt& prompt, Relation relation, SessionHandle session = kNoHandle) {
    const auto found = index_.find(prompt);
    EXPECT_EQ(static_cast<int>(found.relation), static_cast<int>(relation));
    EXPECT_EQ(found.session, session);
  }

  SessionIndex index_{kBlock};
  Prompt system_ = Prompt().add(1, 100);
};

TEST_F(SessionIndexTest, RefusesABlockOfNothing) {
  expect_error<InvalidOption>([] { SessionIndex index(0); }, "block_tokens");
}

TEST_F(SessionIndexTest, KnowsNobodyAtFirst) {
  expect(system_, Relation::kNew);
  expect(Prompt(), Relation::kNew);
}

TEST_F(SessionIndexTest, FollowsTheOutput) {
  const Prompt whole = turn(0, system_.plus(2, 33), 3);
  expect(whole.plus(4, 10), Relation::kContinues, 0);
  expect(whole.plus(4, 1), Relation::kContinues, 0);
}

TEST_F(SessionIndexTest, FollowsThePromptWhereTheAnswerWasTokenisedAnew) {
  const Prompt prompt = system_.plus(2, 33);
  turn(0, prompt, 3);
  expect(prompt.plus(99, 60), Relation::kContinues, 0);
}

TEST_F(SessionIndexTest, AllowsForTheOpeningOfAnAnswer) {
  const Prompt prompt = system_.plus(2, 33);
  turn(0, prompt, 3);
  expect(prompt.first(133 - kOpening).plus(99, 60), Relation::kContinues, 0);
  expect(prompt.first(133 - kOpening - 1).plus(99, 60), Relation::kNew);
}

TEST_F(SessionIndexTest, ASharedSystemPromptIsNoSession) {
  turn(0, system_.plus(2, 33), 3);
  expect(system_.plus(5, 40), Relation::kNew);
  // Not even when the question ends inside the block that ends the system prompt.
  turn(1, system_.plus(6, 3).plus(99, kOpening), 7);
  expect(system_.plus(8, 40), Relation::kNew);
}

TEST_F(SessionIndexTest, TheSameFirstQuestionIsAnotherSession) {
  const Prompt prompt = system_.plus(2, 33);
  turn(0, prompt, 3);
  expect(prompt, Relation::kNew);
  index_.begin(1, prompt);
  index_.finish(1, prompt.plus(30, 40), false);
  // Each is then known by its own answer.
  expect(prompt.plus(3, 40).plus(4, 20), Relation::kContinues, 0);
  expect(prompt.plus(30, 40).plus(4, 20), Relation::kContinues, 1);
}

TEST_F(SessionIndexTest, WhoeverIsAtWorkIsForked) {
  Prompt whole = turn(0, system_.plus(2, 33), 3);
  const Prompt next = whole.plus(4, 10);
  index_.begin(0, next);  // the session's second turn runs
  expect(next.plus(9, 30), Relation::kForks, 0);
  expect(whole.plus(9, 30), Relation::kForks, 0);
  index_.finish(0, next.plus(5, 40), false);
  expect(next.plus(5, 40).plus(6, 10), Relation::kContinues, 0);
}

TEST_F(SessionIndexTest, TheVeryPromptOfALaterTurnIsAFork) {
  Prompt whole = turn(0, system_.plus(2, 33), 3);
  const Prompt next = whole.plus(4, 10);
  turn(0, next, 5);
  expect(next, Relation::kForks, 0);
}

TEST_F(SessionIndexTest, AFollowedForkIsASessionOfItsOwn) {
  Prompt whole = turn(0, system_.plus(2, 33), 3);
  index_.begin(0, whole.plus(4, 10));
  const Prompt child = turn(1, whole.plus(9, 30), 10);
  index_.finish(0, whole.plus(4, 10).plus(5, 40), false);
  expect(child.plus(11, 10), Relation::kContinues, 1);
  expect(whole.plus(4, 10).plus(5, 40).plus(6, 8), Relation::kContinues, 0);
}

TEST_F(SessionIndexTest, EditedHistoryIsTheSameSession) {
  Prompt whole = turn(0, system_.plus(2, 33), 3);
  const Prompt second = whole.plus(4, 30);
  turn(0, second, 5, 200);
  const Prompt third = second.plus(5, 200).plus(6, 30);
  turn(0, third, 7);
  // The answer to the third turn and the tool's result before it were rewritten.
  expect(second.plus(5, 200).plus(60, 50), Relation::kEdits, 0);
  expect(second.plus(55, 90), Relation::kForks, 0);  // less than half of it is left
}

TEST_F(SessionIndexTest, EditedHistoryIsFoundByItsCheckpoints) {
  constexpr std::size_t kTokens = SessionIndex::kStride * kBlock;
  Prompt whole = turn(0, system_.plus(2, 33), 3, 3 * kTokens);
  turn(0, whole.plus(4, 2 * kTokens), 5);
  // It diverges where no turn ended.
  expect(whole.plus(4, 2 * kTokens).first(5 * kTokens).plus(77, 50), Relation::kEdits, 0);
  expect(whole.first(2 * kTokens).plus(77, 50), Relation::kForks, 0);
}

TEST_F(SessionIndexTest, AfterAnEditTheOldHistoryIsGone) {
  Prompt whole = turn(0, system_.plus(2, 33), 3, 200);
  const Prompt old = turn(0, whole.plus(4, 30), 5);
  const Prompt edited = whole.plus(44, 30);
  expect(edited, Relation::kEdits, 0);
  turn(0, edited, 6);
  expect(edited.plus(6, 40).plus(7, 10), Relation::kContinues, 0);
  index_.begin(0, edited.plus(6, 40).plus(7, 10));
  expect(old.plus(8, 10), Relation::kForks, 0);
  index_.finish(0, edited.plus(6, 40).plus(7, 10).plus(8, 40), false);
}

TEST_F(SessionIndexTest, AnAbortedTurnCanBeSentAgain) {
  Prompt whole = turn(0, system_.plus(2, 33), 3);
  const Prompt next = whole.plus(4, 30);
  index_.begin(0, next);
  index_.finish(0, next.plus(5, 8), true);
  expect(next.plus(50, 10), Relation::kContinues, 0);
}

TEST_F(SessionIndexTest, ShortPromptsLeaveNoTrace) {
  turn(0, Prompt().add(2, kBlock), 3, 2);
  expect(Prompt().add(2, kBlock).plus(3, 2).plus(4, 50), Relation::kNew);
}

TEST_F(SessionIndexTest, ForgettingLeavesNothing) {
  constexpr std::size_t kTokens = SessionIndex::kStride * kBlock;
  const Prompt one = turn(0, system_.plus(2, 4 * kTokens), 3);
  const Prompt two = turn(1, system_.plus(2, 4 * kTokens).plus(9, kTokens), 4);
  EXPECT_EQ(index_.sessions(), 2u);
  index_.forget(0);
  index_.forget(0);
  index_.forget(77);
  EXPECT_EQ(index_.sessions(), 1u);
  expect(one.plus(5, 10), Relation::kNew);
  expect(two.plus(5, 10), Relation::kContinues, 1);
  index_.forget(1);
  EXPECT_EQ(index_.checkpoints(), 0u);
  index_.begin(0, one);  // the handle is free again
  index_.finish(0, one, false);
}

TEST_F(SessionIndexTest, RemembersFewEndsOfALongSession) {
  Prompt whole = system_.plus(2, 33);
  std::vector<Prompt> ends;
  for (int i = 0; i < 200; ++i) {
    whole = turn(0, whole.plus(1000 + i, 20), 2000 + i, 20);
    index_.check_invariants();
    ends.push_back(whole);
  }
  expect(whole.plus(5, 10), Relation::kContinues, 0);
  expect(ends[197].plus(5, 10), Relation::kEdits, 0);
  expect(ends[150].plus(5, 10), Relation::kEdits, 0);
}

TEST_F(SessionIndexTest, ReadsFewHashesOfALongPrompt) {
  const Prompt system = Prompt().add(1, 15'000);
  for (SessionHandle i = 0; i < 300; ++i) turn(i, system.plus(10 + i, 100 + 37 * i), 5);
  const Prompt fresh = system.plus(9'999, 25'000);  // 10,000 blocks
  EXPECT_EQ(static_cast<int>(index_.find(fresh).relation), static_cast<int>(Relation::kNew));
  EXPECT_LT(fresh.reads, 1000u);
  const Prompt back = system.plus(10 + 200, 100 + 37 * 200).plus(5, 40).plus(6, 20'000);
  EXPECT_EQ(index_.find(back).session, 200);
  EXPECT_LT(back.reads, 1000u);
}

}  // namespace
}  // namespace lamps
