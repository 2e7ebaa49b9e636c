// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <vector>

#include "lamps/prompt_classes.h"

namespace lamps {
namespace {

// `shared` tokens of a kind, then a question of its own.
std::vector<std::int32_t> prompt(int kind, std::size_t shared, int question,
                                 std::size_t length = 3000) {
  std::vector<std::int32_t> tokens(length);
  for (std::size_t i = 0; i < length; ++i) {
    tokens[i] = static_cast<std::int32_t>(i) + 1000 * (i < shared ? kind : 100 + question);
  }
  return tokens;
}

ClassId classify(PromptClasses& classes, const std::vector<std::int32_t>& tokens) {
  return classes.classify(PromptClasses::beginnings(tokens));
}

TEST(PromptClasses, HashesBeginningsOfDoublingLength) {
  const auto tokens = prompt(1, 3000, 0);
  EXPECT_EQ(PromptClasses::beginnings(tokens).size(), 7u);  // 32 ... 2048
  EXPECT_TRUE(PromptClasses::beginnings(std::vector<std::int32_t>(31)).empty());
  EXPECT_EQ(PromptClasses::beginnings(std::vector<std::int32_t>(20'000)).size(), 9u);
  const auto other = prompt(1, 100, 0);
  const auto a = PromptClasses::beginnings(tokens), b = PromptClasses::beginnings(other);
  EXPECT_EQ(a[1], b[1]);  // 64 tokens are the same
  EXPECT_NE(a[2], b[2]);  // 128 are not
}

TEST(PromptClasses, TakesSeveralSessionsToMakeAClass) {
  PromptClasses classes;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(classify(classes, prompt(1, 1500, i)), kNoClass);
  const ClassId one = classify(classes, prompt(1, 1500, 3));
  EXPECT_NE(one, kNoClass);
  EXPECT_EQ(classify(classes, prompt(1, 1500, 4)), one);
  EXPECT_EQ(classify(classes, prompt(2, 1500, 5)), kNoClass);
}

TEST(PromptClasses, TellsByTheLongestCommonBeginning) {
  PromptClasses classes;
  ClassId general = kNoClass, special = kNoClass;
  for (int i = 0; i < 10; ++i) general = classify(classes, prompt(1, 300, i));
  // The same first 256 tokens, then a tool set of its own up to token 1100.
  const auto with_tools = [](int question) {
    auto tokens = prompt(1, 300, question);
    for (std::size_t i = 256; i < 1100; ++i) tokens[i] = -1;
    return tokens;
  };
  for (int i = 10; i < 20; ++i) special = classify(classes, with_tools(i));
  EXPECT_NE(special, general);
  EXPECT_EQ(classify(classes, with_tools(99)), special);
  EXPECT_EQ(classify(classes, prompt(1, 300, 98)), general);
}

TEST(PromptClasses, PromptsOfTheirOwnDoNotCrowdOutClasses) {
  PromptClasses classes;
  ClassId one = kNoClass;
  for (int i = 0; i < 10; ++i) one = classify(classes, prompt(1, 1500, i));
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::int32_t> own(64);
    std::iota(own.begin(), own.end(), 1'000'000 + 64 * i);
    EXPECT_EQ(classify(classes, own), kNoClass);
  }
  EXPECT_EQ(classify(classes, prompt(1, 1500, 11)), one);
}

TEST(PromptClasses, HasNoMoreThanSoManyClasses) {
  PromptClasses classes;
  for (int kind = 0; kind < 2 * PromptClasses::kMostClasses; ++kind) {
    for (int i = 0; i < 4; ++i) {
      EXPECT_LT(classify(classes, prompt(kind, 32, 0, 32)), PromptClasses::kMostClasses);
    }
  }
}

TEST(PromptClasses, AreTheSameAfterARestart) {
  PromptClasses classes;
  ClassId one = kNoClass, two = kNoClass;
  for (int i = 0; i < 5; ++i) one = classify(classes, prompt(1, 1500, i));
  for (int i = 0; i < 5; ++i) two = classify(classes, prompt(2, 40, i));
  PromptClasses again;
  classes.each_class([&](ClassId id, std::uint64_t beginning) { again.restore(id, beginning); });
  EXPECT_EQ(classify(again, prompt(1, 1500, 77)), one);
  EXPECT_EQ(classify(again, prompt(2, 40, 78)), two);
  ClassId fresh = kNoClass;
  for (int i = 0; i < 5; ++i) fresh = classify(again, prompt(3, 40, i));
  EXPECT_GT(fresh, std::max(one, two)) << "new classes get new ids";
}

}  // namespace
}  // namespace lamps
