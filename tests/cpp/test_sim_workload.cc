// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "expect_error.h"
#include "lamps/errors.h"
#include "sim/turn.h"
#include "sim/workload.h"
#include "sim_scene.h"

namespace lamps::sim {
namespace {

using testing::small_engine;
using testing::TableBuilder;

template <typename Action>
void expect_refusal(const Action& action, const std::string& part) {
  const std::string message = lamps::testing::error_of<InvalidOption>(action);
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

SessionTable three() {
  return TableBuilder()
      .session(5.0, {{4, 1}})
      .session(1.0, {{4, 1, 2.0}, {2, 2}})
      .session(5.0, {{4, 1}})
      .table();
}

TEST(SessionSource, GivenSessionsComeInOrderOfArrival) {
  const SessionTable table = three();
  SessionSource source(table, {.starts = Starts::kGiven});
  EXPECT_EQ(source.total(), 3);
  for (const auto& [row, at] : {std::pair{1, 1.0}, {0, 5.0}, {2, 5.0}}) {
    EXPECT_EQ(source.next_at(), at);
    EXPECT_EQ(source.pop().row, row);
  }
  EXPECT_TRUE(source.empty());
  EXPECT_EQ(source.next_at(), kForever);
}

TEST(SessionSource, PoissonArrivalsFollowTheSeedAndReplayTheTable) {
  const SessionTable table = three();
  const Load load{.starts = Starts::kPoisson, .rate = 4.0, .sessions = 40'000, .seed = 3};
  SessionSource source(table, load), same(table, load);
  SessionSource other(table, {.starts = Starts::kPoisson, .rate = 4.0, .sessions = 9, .seed = 4});
  EXPECT_NE(source.next_at(), other.next_at());
  SessionSource::Start last{};
  for (std::int64_t i = 0; i < load.sessions; ++i) {
    const auto start = source.pop();
    EXPECT_EQ(start.at, same.pop().at);
    EXPECT_EQ(start.row, i % 3);
    EXPECT_GE(start.at, last.at);
    last = start;
  }
  EXPECT_NEAR(last.at, 10'000.0, 200.0);  // four standard deviations
}

TEST(SessionSource, AClosedLoopStartsTheNextWhenOneEnds) {
  const SessionTable table = three();
  SessionSource source(table, {.starts = Starts::kClosed, .concurrency = 2, .sessions = 4});
  EXPECT_EQ(source.pop().at, 0.0);
  EXPECT_EQ(source.pop().at, 0.0);
  EXPECT_EQ(source.next_at(), kForever);
  source.ended(7.5);
  EXPECT_EQ(source.next_at(), 7.5);
  EXPECT_EQ(source.pop().number, 2);
  source.ended(8.0);
  source.ended(9.0);
  EXPECT_EQ(source.pop().at, 8.0);
  EXPECT_TRUE(source.empty());
}

TEST(SessionTable, SaysWhatIsWrongWithAValue) {
  const EngineModel engine = small_engine(8);  // 32 tokens
  SessionTable table = three();
  table.validate(engine);
  table.output_tokens[2] = 0;
  expect_refusal([&] { (void)table.validate(engine); }, "output_tokens[2] = 0");
  table = three();
  table.prompt_tokens[2] = 30;
  expect_refusal([&] { (void)table.validate(engine); }, "session 1: context = 37");
  table.kept_tokens[2] = 0;
  table.validate(engine);
  table.tool = {1};
  expect_refusal([&] { (void)table.validate(engine); }, "tool has 1 entries: expected 4");
  table = three();
  table.called = {0, -1, kNotRead, -1};  // what is not read is an empty column
  expect_refusal([&] { (void)table.validate(engine); }, "called[2] = -2");
  table = three();
  table.first_segment[1] = 3;
  expect_refusal([&] { (void)table.validate(engine); }, "number of segments");
  table = three();
  table.call_seconds[1] = -1.0;
  expect_refusal([&] { (void)table.validate(engine); }, "session 1: call_seconds = -1");
}

TEST(SessionSource, RefusesLoadsThatMakeNoSense) {
  SessionTable table = three();
  expect_refusal([&] { (void)SessionSource(table, {.starts = Starts::kPoisson}); }, "rate = 0");
  expect_refusal([&] { (void)SessionSource(table, {.starts = Starts::kClosed}); },
                 "concurrency = 0");
  expect_refusal([&] { (void)SessionSource(table, {.starts = Starts::kGiven, .sessions = 4}); },
                 "sessions = 4");
  table.arrival.clear();
  expect_refusal([&] { (void)SessionSource(table, {.starts = Starts::kGiven}); }, "arrival");
  expect_refusal([&] { (void)starts_from("later"); }, "given, poisson, closed");
}

}  // namespace
}  // namespace lamps::sim
