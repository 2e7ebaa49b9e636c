// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "lamps/predictor.h"

namespace lamps {
namespace {

constexpr TurnFacts kFirstTurn{};

TurnFacts after_call(Seconds last_call, int turn = 1) {
  return {.turn = turn, .last_call = last_call, .tool = kNoTool};
}

TEST(Predictor, ToolNamesGetDenseIds) {
  Predictor predictor;
  EXPECT_EQ(predictor.tool_id("search"), 0);
  EXPECT_EQ(predictor.tool_id("bash"), 1);
  EXPECT_EQ(predictor.tool_id("search"), 0);
  EXPECT_EQ(predictor.tool_id(""), 2);
}

TEST(Predictor, TooManyToolNamesShareTheLastId) {
  Predictor predictor;
  for (std::size_t i = 0; i < Predictor::kMaxTools; ++i) predictor.tool_id(std::to_string(i));
  const auto last = static_cast<ToolId>(Predictor::kMaxTools - 1);
  EXPECT_EQ(predictor.tool_id("one more"), last);
  EXPECT_EQ(predictor.tool_id("and another"), last);
  EXPECT_EQ(predictor.tool_id("7"), 7);
}

TEST(Predictor, AnswersBeforeAnythingWasSeen) {
  const Predictor predictor;
  for (const double produced : {0.0, 10.0, 1e6}) {
    EXPECT_GE(predictor.remaining_output(kFirstTurn, produced), 1.0);
  }
  for (const Seconds elapsed : {0.0, 0.5, 1e4}) {
    EXPECT_GT(predictor.remaining_call(kFirstTurn, elapsed), 0.0);
    EXPECT_GT(predictor.p_return(kFirstTurn, elapsed), 0.0);
    EXPECT_LT(predictor.p_return(kFirstTurn, elapsed), 1.0);
    EXPECT_DOUBLE_EQ(predictor.still_out(kFirstTurn, elapsed, 0.0), 1.0);
  }
  EXPECT_GE(predictor.further_turns(kFirstTurn), 0.0);
  EXPECT_GT(predictor.patience(), 0.0);
}

TEST(Predictor, LearnsOutputLengths) {
  Predictor predictor;
  for (int i = 0; i < 500; ++i) predictor.observe_output(kFirstTurn, 30 + i % 21);
  EXPECT_NEAR(predictor.remaining_output(kFirstTurn, 0.0), 40.0, 1.0);
  // Between 40 and 50: 45 on average
  EXPECT_NEAR(predictor.remaining_output(kFirstTurn, 40.0), 5.5, 1.0);
  // One that has outlived everything seen is not about to end.
  EXPECT_GT(predictor.remaining_output(kFirstTurn, 400.0), 50.0);
}

TEST(Predictor, TellsOutputsByThePreviousCall) {
  Predictor predictor;
  for (int i = 0; i < 500; ++i) {
    predictor.observe_output(kFirstTurn, 20);
    predictor.observe_output(after_call(5.0), 200);
  }
  EXPECT_NEAR(predictor.remaining_output(kFirstTurn, 0.0), 20.0, 5.0);
  EXPECT_NEAR(predictor.remaining_output(after_call(5.0), 0.0), 200.0, 5.0);
}

TEST(Predictor, TellsCallsByTool) {
  Predictor predictor;
  TurnFacts quick{.turn = 0, .last_call = -1.0, .tool = predictor.tool_id("calculator")};
  TurnFacts slow{.turn = 0, .last_call = -1.0, .tool = predictor.tool_id("build")};
  for (int i = 0; i < 500; ++i) {
    predictor.observe_call(quick, 0.1);
    predictor.observe_call(slow, 60.0);
  }
  EXPECT_NEAR(predictor.remaining_call(quick, 0.0), 0.1, 0.5);
  EXPECT_NEAR(predictor.remaining_call(slow, 0.0), 60.0, 1.0);
  EXPECT_GT(predictor.still_out(slow, 0.0, 10.0), 0.9);
  EXPECT_LT(predictor.still_out(quick, 0.0, 10.0), 0.1);
  // A tool never seen is expected to behave like all calls together.
  const TurnFacts unknown{.turn = 0, .last_call = -1.0, .tool = predictor.tool_id("new")};
  EXPECT_NEAR(predictor.remaining_call(unknown, 0.0), 30.0, 3.0);
}

TEST(Predictor, TellsCallsByThePreviousOne) {
  Predictor predictor;
  for (int i = 0; i < 500; ++i) {
    predictor.observe_call(after_call(0.2), 0.2);
    predictor.observe_call(after_call(30.0), 30.0);
  }
  EXPECT_LT(predictor.remaining_call(after_call(0.2), 0.0), 1.0);
  EXPECT_GT(predictor.remaining_call(after_call(30.0), 0.0), 25.0);
}

TEST(Predictor, SilenceSpeaksForASessionThatWillNotReturn) {
  Predictor predictor;
  for (int i = 0; i < 300; ++i) {
    predictor.observe_call(kFirstTurn, 1.0 + 0.01 * (i % 100));
    if (i % 2 == 0) predictor.observe_no_return(kFirstTurn);
  }
  EXPECT_NEAR(predictor.p_return(kFirstTurn, 0.0), 2.0 / 3.0, 0.05);
  double last = 1.0;
  for (Seconds elapsed = 0.0; elapsed < 5.0; elapsed += 0.1) {
    const double now = predictor.p_return(kFirstTurn, elapsed);
    EXPECT_LE(now, last + 1e-12);
    last = now;
  }
  EXPECT_LT(last, 0.1);
}

TEST(Predictor, CallsUnderWayTellThatNobodyReturns) {
  Predictor predictor;
  const double before = predictor.p_return(kFirstTurn, 0.0);
  std::vector<double> counted(50, 0.0);
  const auto silent_for = [&](Seconds elapsed) {
    for (double& each : counted) each = predictor.observe_silence(kFirstTurn, elapsed, each);
    return predictor.p_return(kFirstTurn, 0.0);
  };
  EXPECT_LT(silent_for(1.0), before);
  EXPECT_LT(silent_for(30.0), 0.1);
  for (const double each : counted) {
    EXPECT_GT(each, 0.5);
    EXPECT_LT(each, 1.0);
  }
  EXPECT_NEAR(silent_for(0.0), before, 1e-9) << "withdrawn";
}

TEST(Predictor, SilenceIsNoEndWhereCallsTakeLonger) {
  Predictor predictor;
  for (int i = 0; i < 200; ++i) predictor.observe_call(kFirstTurn, 10.0 + 0.05 * i);
  for (int i = 0; i < 100; ++i) predictor.observe_silence(kFirstTurn, 5.0, 0.0);
  EXPECT_GT(predictor.p_return(kFirstTurn, 0.0), 0.97);
}

// Two in five return; that others have ended is never observed. Ends at most ten minutes back are
// known by their silence alone.
TEST(Predictor, SilenceFindsTheShareThatReturns) {
  Predictor predictor;
  std::mt19937 random(7);
  std::uniform_real_distribution<double> chance(0.0, 1.0);
  std::lognormal_distribution<double> wait(2.0, 1.0);
  struct Call {
    Seconds begin, returns;  // < 0: never
    double counted;
  };
  std::vector<Call> under_way;
  for (Seconds now = 0.0; now < 600.0; now += 1.0) {
    under_way.push_back({now, chance(random) < 0.4 ? now + wait(random) : -1.0, 0.0});
    std::erase_if(under_way, [&](Call& call) {
      const bool returned = call.returns >= 0.0 && call.returns <= now;
      const Seconds elapsed = returned ? 0.0 : now - call.begin;
      call.counted = predictor.observe_silence(kFirstTurn, elapsed, call.counted);
      if (returned) predictor.observe_call(kFirstTurn, call.returns - call.begin);
      return returned;
    });
  }
  EXPECT_NEAR(predictor.p_return(kFirstTurn, 0.0), 0.4, 0.08);
}

// Asked again and again during a pause, as decisions are: many classes that have seen little each.
TEST(Predictor, ChancesOfAReturnComeTrueLateInAPauseToo) {
  constexpr Seconds kGivenUp = 3600.0;
  Predictor predictor;
  std::mt19937 random(4);
  std::uniform_real_distribution<double> chance(0.0, 1.0);
  std::lognormal_distribution<double> wait(5.0, 1.8);  // as people answer
  std::array<double, 10> predicted{}, returned{}, asked{};
  for (int i = 0; i < 20'000; ++i) {
    TurnFacts facts;
    facts.kind = CallKind::kMessage;
    facts.prompt = static_cast<ClassId>(random() % 100);
    const double comes_back = 0.3 + 0.6 * static_cast<double>(facts.prompt) / 99.0;
    facts.last_call = std::pow(10.0, 4.0 * chance(random) - 1.0);
    const Seconds drawn = wait(random);
    const bool returns = drawn < kGivenUp && chance(random) < comes_back;
    for (const Seconds elapsed : {0.0, 60.0, 300.0, 900.0, 1800.0, 2700.0}) {
      if (i < 500 || (returns && elapsed > drawn)) break;
      const double p = predictor.p_return(facts, elapsed);
      const auto decile = std::min<std::size_t>(static_cast<std::size_t>(10.0 * p), 9);
      predicted[decile] += p;
      returned[decile] += returns ? 1.0 : 0.0;
      asked[decile] += 1.0;
    }
    if (returns) {
      predictor.observe_call(facts, drawn);
    } else {
      predictor.observe_no_return(facts);
    }
  }
  EXPECT_GT(asked[0], 1000.0) << "the lowest decile is what this is about";
  for (std::size_t i = 0; i < 10; ++i) {
    if (asked[i] < 300.0) continue;
    EXPECT_NEAR(predicted[i] / asked[i], returned[i] / asked[i], 0.05) << "decile " << i;
  }
}

TEST(Predictor, ThePriorsLongWaitsDoNotRuleTheMeanOfShortCalls) {
  Predictor predictor;
  EXPECT_GT(predictor.remaining_call(kFirstTurn, 0.0), 30.0);
  for (int i = 0; i < 30; ++i) predictor.observe_call(kFirstTurn, 0.1 + 0.01 * i);
  EXPECT_LT(predictor.remaining_call(kFirstTurn, 0.0), 2.0);
  EXPECT_GT(predictor.still_out(kFirstTurn, 0.0, 10.0), 0.0) << "but they may still happen";
}

TEST(Predictor, StillOutFallsFromOneToZero) {
  Predictor predictor;
  std::mt19937 random(1);
  std::lognormal_distribution<double> draw(0.0, 1.5);
  for (int i = 0; i < 1000; ++i) predictor.observe_call(kFirstTurn, draw(random));
  for (const Seconds elapsed : {0.0, 0.3, 2.0, 500.0}) {
    double last = 1.0;
    EXPECT_DOUBLE_EQ(predictor.still_out(kFirstTurn, elapsed, 0.0), 1.0);
    for (Seconds later = 1e-3; later < 1e5; later *= 1.5) {
      const double now = predictor.still_out(kFirstTurn, elapsed, later);
      EXPECT_LE(now, last + 1e-12);
      EXPECT_GE(now, 0.0);
      last = now;
    }
    EXPECT_LT(last, 0.01);
  }
}

TEST(Predictor, CountsFurtherTurns) {
  Predictor predictor;
  // Every session has 5 turns: 4 calls, then the end.
  for (int session = 0; session < 400; ++session) {
    for (int turn = 0; turn < 4; ++turn) predictor.observe_call(after_call(1.0, turn), 1.0);
    predictor.observe_no_return(after_call(1.0, 4));
  }
  EXPECT_GT(predictor.further_turns(after_call(1.0, 0)), 3.0);
  EXPECT_LT(predictor.further_turns(after_call(1.0, 3)), 0.5);
  EXPECT_LE(predictor.further_turns(after_call(1.0, 0)), 20.0);
}

TEST(Predictor, PatienceCoversNearlyAllCalls) {
  Predictor predictor;
  const Seconds before = predictor.patience();
  EXPECT_GT(before, 0.0);
  for (int i = 0; i < 1000; ++i) predictor.observe_call(kFirstTurn, i % 50 == 0 ? 30.0 : 1.0);
  EXPECT_GT(predictor.patience(), 30.0);
}

TurnFacts ended_with(Predictor& predictor, TurnFacts facts, std::vector<std::string_view> tools) {
  return predictor.at_end(facts, {true, tools});
}

TEST(Predictor, NamesTheCallAfterATurn) {
  Predictor predictor;
  const TurnFacts called = ended_with(predictor, kFirstTurn, {"search"});
  EXPECT_EQ(predictor.tool_name(called.tool), "search");
  EXPECT_EQ(called.kind, CallKind::kTool);
  EXPECT_TRUE(called.calls_tools);
  TurnFacts hinted;
  hinted.tool = predictor.tool_id("by the client");
  EXPECT_EQ(ended_with(predictor, hinted, {"search"}).tool, hinted.tool);
  EXPECT_EQ(predictor.tool_name(kNoTool), "");
}

TEST(Predictor, ATurnWithoutACallIsAMessageOnlyWhereCallsAreRecognised) {
  Predictor predictor;
  TurnFacts chat;
  chat.prompt = 3;
  EXPECT_EQ(ended_with(predictor, chat, {}).kind, CallKind::kUnknown);
  TurnFacts agent;
  agent.calls_tools = true;  // earlier in the session
  EXPECT_EQ(ended_with(predictor, agent, {}).kind, CallKind::kMessage);
  EXPECT_EQ(predictor.at_end(agent, {}).kind, CallKind::kUnknown) << "nobody looked";
  (void)ended_with(predictor, chat, {"search"});  // another session that begins alike calls
  EXPECT_EQ(ended_with(predictor, chat, {}).kind, CallKind::kMessage);
}

TEST(Predictor, ToolsAndPeopleTakeTheirTime) {
  Predictor predictor;
  TurnFacts tool, message;
  tool.kind = CallKind::kTool;
  message.kind = CallKind::kMessage;
  EXPECT_LT(predictor.call_quantile(tool, 0.0, 0.5), 2.0);
  EXPECT_GT(predictor.call_quantile(message, 0.0, 0.5), 60.0);
  EXPECT_GT(predictor.p_return(tool, 0.0), 0.9);
  for (int i = 0; i < 300; ++i) {
    predictor.observe_call(tool, 0.2);
    predictor.observe_call(message, 200.0);
    predictor.observe_no_return(message);
  }
  EXPECT_NEAR(predictor.p_return(message, 0.0), 0.5, 0.05);
  EXPECT_GT(predictor.p_return(tool, 0.0), 0.98);
  // Before the turn has run nobody knows which it will be.
  EXPECT_NEAR(predictor.still_out(kFirstTurn, 0.0, 10.0), 0.5, 0.05);
}

TEST(Predictor, AnUnseenToolStartsFromThePriorOfTools) {
  Predictor predictor;
  TurnFacts unseen;
  unseen.tool = predictor.tool_id("never seen");
  EXPECT_NEAR(predictor.call_quantile(unseen, 0.0, 0.5), 0.6, 0.4);
  EXPECT_GT(predictor.call_quantile(unseen, 0.0, 0.95), 60.0);
  // Given that it has lasted 10 s it is one of the waits.
  EXPECT_GT(predictor.remaining_call(unseen, 10.0), 40.0);
}

TEST(Predictor, CallsInParallelLastAsLongAsTheSlowest) {
  Predictor predictor;
  TurnFacts quick, slow;
  quick.tool = predictor.tool_id("read");
  slow.tool = predictor.tool_id("build");
  for (int i = 0; i < 200; ++i) {
    predictor.observe_call(quick, 0.1);
    predictor.observe_call(slow, 60.0);
  }
  const TurnFacts both = ended_with(predictor, kFirstTurn, {"build", "read"});
  EXPECT_EQ(both.tool, ended_with(predictor, kFirstTurn, {"read", "build", "read"}).tool);
  EXPECT_EQ(predictor.tool_name(both.tool), "build + read");
  EXPECT_NEAR(predictor.remaining_call(both, 0.0), 60.0, 5.0);
  EXPECT_NE(ended_with(predictor, kFirstTurn, {"read", "read"}).tool, quick.tool);
  // Once seen it is judged by itself, and its parts have learned nothing from it.
  for (int i = 0; i < 200; ++i) predictor.observe_call(both, 90.0);
  EXPECT_NEAR(predictor.remaining_call(both, 0.0), 90.0, 5.0);
  EXPECT_NEAR(predictor.remaining_call(slow, 0.0), 60.0, 5.0);
}

TEST(Predictor, TellsOutputsByHowPromptsBeginAndByTheClientsCap) {
  Predictor predictor;
  TurnFacts reviews, titles;
  reviews.prompt = 0;
  titles.prompt = 1;
  TurnFacts labels = reviews;
  labels.cap_tokens = 8;
  for (int i = 0; i < 300; ++i) {
    predictor.observe_output(reviews, 800);
    predictor.observe_output(titles, 10);
    predictor.observe_output(labels, 3);
  }
  EXPECT_NEAR(predictor.remaining_output(reviews, 0.0), 800.0, 40.0);
  EXPECT_NEAR(predictor.remaining_output(titles, 0.0), 10.0, 10.0);
  EXPECT_NEAR(predictor.remaining_output(labels, 0.0), 3.0, 12.0);
}

TEST(Predictor, ACapIsNoOracle) {
  // Of two clients that happen to cap at 300 and at 4000 tokens nothing else is known.
  Predictor predictor;
  TurnFacts a, b;
  a.cap_tokens = 300;
  b.cap_tokens = 4000;
  for (int i = 0; i < 300; ++i) {
    predictor.observe_output(a, 300);
    predictor.observe_output(b, 4000);
  }
  EXPECT_DOUBLE_EQ(predictor.remaining_output(a, 0.0), predictor.remaining_output(b, 0.0));
}

TEST(Predictor, ScoresItself) {
  Predictor predictor;
  TurnFacts facts;
  facts.tool = predictor.tool_id("search");
  std::mt19937 random(2);
  std::lognormal_distribution<double> draw(0.0, 1.0);
  for (int i = 0; i < 2000; ++i) {
    predictor.observe_call(facts, draw(random));
    predictor.observe_output(facts, 100);
  }
  bool found = false;
  for (const Predictor::Score& score : predictor.scores()) {
    if (score.what != "tool") continue;
    found = true;
    EXPECT_EQ(score.name, "search");
    EXPECT_EQ(score.calibration.scored, 2000);
    EXPECT_NEAR(static_cast<double>(score.calibration.below_50) / 2000.0, 0.5, 0.04);
    EXPECT_NEAR(static_cast<double>(score.calibration.below_90) / 2000.0, 0.9, 0.03);
    EXPECT_NEAR(static_cast<double>(score.calibration.below_99) / 2000.0, 0.99, 0.01);
    EXPECT_NEAR(score.calibration.log_error / 2000.0, 0.8, 0.08);  // E|N(0, 1)|
  }
  EXPECT_TRUE(found);
  std::int64_t returned = 0;
  for (const auto& score : predictor.return_scores()) returned += score.returned;
  EXPECT_EQ(returned, 2000);
}

TEST(Predictor, MemoryIsBounded) {
  Predictor predictor;
  TurnFacts facts;
  for (std::size_t i = 0; i < Predictor::kMaxTools + 100; ++i) {
    facts.tool = predictor.tool_id("tool " + std::to_string(i));
    facts.prompt = static_cast<ClassId>(i % (2 * PromptClasses::kMostClasses));
    facts.turn = static_cast<int>(i % 40);
    predictor.observe_call(facts, 1.0);
    predictor.observe_output(facts, 10);
  }
  EXPECT_EQ(predictor.scores().size(), Predictor::kMaxTools + 1 + PromptClasses::kMostClasses + 1);
}

}  // namespace
}  // namespace lamps
