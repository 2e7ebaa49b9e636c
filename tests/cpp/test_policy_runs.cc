// SPDX-License-Identifier: Apache-2.0
// Whole runs of the policy core in a tiny engine: nothing is lost, nothing starves, nothing leaks.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "lamps/policy.h"
#include "tiny_engine.h"

namespace lamps {
namespace {

using testing::TinyEngine;
using testing::Turn;

struct Load {
  const char* name;
  unsigned seed;
  Tokens capacity;
  double rank_weight;
  bool keeps;          // whether KV is kept across calls at all
  double abort_share;  // of the steps
  PolicyName policy = PolicyName::kLamps;
  Tokens host = 0;
  bool copies = false;  // whether KV must have gone to the host and come back
};
void PrintTo(const Load& load, std::ostream* out) { *out << load.name; }

// Sessions of one to four turns; some never return, some say that a turn is their last.
class SessionRun {
 public:
  explicit SessionRun(const Load& load)
      : load_(load), random_(load.seed), engine_(load.capacity, 16, options(load), load.host) {
    engine_.keeps = load.keeps && engine_.core.keeps();
  }

  void serve(int steps, double arrivals_per_step) {
    for (int i = 0; i < steps; ++i) {
      if (uniform() < arrivals_per_step) begin_session();
      return_due();
      if (uniform() < load_.abort_share) abort_any();
      engine_.step();
      if (::testing::Test::HasFatalFailure()) return;
      take_finished();
    }
  }

  // Nobody new comes; everybody present is served, and pauses run out.
  void drain() {
    for (int i = 0; i < 200'000 && !(engine_.unfinished().empty() && returns_.empty()); ++i) {
      return_due();
      engine_.step();
      if (::testing::Test::HasFatalFailure()) return;
      take_finished();
    }
    ASSERT_TRUE(engine_.unfinished().empty());
    for (int i = 0; i < 500 && engine_.core.ledger().sessions() > 0; ++i) {
      engine_.now += 100.0;
      engine_.step();
      if (::testing::Test::HasFatalFailure()) return;
    }
    engine_.step();  // lets go of what the last session kept
  }

  void expect_nothing_left() {
    EXPECT_EQ(engine_.core.ledger().sessions(), 0U);
    EXPECT_EQ(engine_.core.ledger().held_tokens(), 0);
    EXPECT_EQ(engine_.core.ledger().running_context(), 0);
    EXPECT_EQ(engine_.core.ledger().waiting_need(), 0);
    EXPECT_TRUE(engine_.held.empty());
    EXPECT_TRUE(engine_.host.empty());
    EXPECT_EQ(engine_.core.ledger().host_tokens(), 0);
    EXPECT_EQ(engine_.free_tokens(), load_.capacity);
    EXPECT_EQ(served_ + aborted_, begun_);
    EXPECT_GT(served_, 0);
    if (load_.copies) {
      EXPECT_GT(engine_.core.counters().swapped, 0);
      EXPECT_GT(engine_.core.counters().copied_ahead, 0);
      EXPECT_GT(engine_.core.counters().prefetched, 0);
    }
  }

 private:
  static Options options(const Load& load) {
    Options options;
    options.policy = load.policy;
    options.rank_weight = load.rank_weight;
    options.starvation_seconds = 5.0;
    options.cost.kv_bytes_per_token = 1000;
    options.cost.swap_bytes_per_s = load.host > 0 ? 1e8 : 0.0;
    return options;
  }
  double uniform() { return std::uniform_real_distribution<double>(0.0, 1.0)(random_); }
  Tokens between(Tokens low, Tokens high) {
    return std::uniform_int_distribution<Tokens>(low, high)(random_);
  }

  void begin_session() {
    const auto session = static_cast<SessionHandle>(next_session_++);
    turns_left_[session] = static_cast<int>(between(1, 4));
    begin_turn(session, between(20, load_.capacity / 4));
  }
  void begin_turn(SessionHandle session, Tokens prompt) {
    Turn turn{.session = session, .prompt = prompt, .output = between(1, 40), .hints = {}};
    const double hint = uniform();
    if (hint < 0.2) turn.hints.output_tokens = static_cast<double>(turn.output);
    if (hint < 0.1) turn.hints.tool = "search";
    turn.hints.final_turn = turns_left_[session] == 1 && hint < 0.5;
    calls_[session] = std::exp(-2.0 + 2.5 * uniform() * uniform());
    if (hint > 0.7) turn.hints.call_seconds = calls_[session];
    engine_.arrive(turn);
    ++begun_;
  }
  void return_due() {
    while (!returns_.empty() && returns_.begin()->first <= engine_.now) {
      const Turn turn = returns_.begin()->second;
      returns_.erase(returns_.begin());
      begin_turn(turn.session, std::min(turn.prompt + between(1, 50), load_.capacity / 2));
    }
  }
  void abort_any() {
    if (engine_.unfinished().empty()) return;
    auto any = engine_.unfinished().begin();
    std::advance(any, between(0, static_cast<Tokens>(engine_.unfinished().size()) - 1));
    engine_.abort(any->first);
    ++aborted_;
  }
  void take_finished() {
    for (const Turn& turn : engine_.finished) {
      ++served_;
      if (--turns_left_[turn.session] <= 0 || uniform() < 0.1) continue;  // some just stay away
      returns_.emplace(engine_.now + calls_[turn.session], turn);
    }
    engine_.finished.clear();
  }

  Load load_;
  std::mt19937 random_;
  TinyEngine engine_;
  std::map<SessionHandle, int> turns_left_;
  std::map<SessionHandle, Seconds> calls_;  // how long the call after the present turn will take
  std::multimap<Seconds, Turn> returns_;
  int next_session_ = 0;
  int begun_ = 0;
  int served_ = 0;
  int aborted_ = 0;
};

class PolicyRun : public ::testing::TestWithParam<Load> {};

TEST_P(PolicyRun, ServesEverybodyAndLeavesNothingBehind) {
  SessionRun run(GetParam());
  run.serve(3000, 0.15);
  ASSERT_FALSE(HasFatalFailure());
  run.drain();
  ASSERT_FALSE(HasFatalFailure());
  run.expect_nothing_left();
}

INSTANTIATE_TEST_SUITE_P(Loads, PolicyRun,
                         ::testing::Values(Load{"Default", 1, 4096, 20.0, true, 0.0},
                                           Load{"OldestFirst", 2, 4096, 0.0, true, 0.0},
                                           Load{"RankAlone", 3, 4096, 1e6, true, 0.0},
                                           Load{"HardlyAnyRoom", 4, 1024, 20.0, true, 0.0},
                                           Load{"MoreRoomThanNeeded", 5, 65536, 20.0, true, 0.0},
                                           Load{"NothingIsKept", 6, 2048, 20.0, false, 0.0},
                                           Load{"ClientsGoAway", 7, 2048, 20.0, true, 0.05},
                                           Load{"AmpleHost", 9, 2048, 20.0, true, 0.02,
                                                PolicyName::kLamps, 1 << 20, true},
                                           Load{"SmallHost", 10, 2048, 20.0, true, 0.02,
                                                PolicyName::kLamps, 1024}),
                         [](const auto& load) { return std::string(load.param.name); });

std::vector<Load> every_policy(Tokens host) {
  std::vector<Load> loads;
  for (const NamedPolicy& each : kPolicies) {
    loads.push_back({each.name.data(), 8, 2048, 20.0, true, 0.02, each.policy, host});
  }
  return loads;
}

std::string letters(const ::testing::TestParamInfo<Load>& load) {
  std::string name = load.param.name;
  std::erase(name, '-');  // GoogleTest takes nothing else
  return name;
}

INSTANTIATE_TEST_SUITE_P(Policies, PolicyRun, ::testing::ValuesIn(every_policy(0)), letters);
INSTANTIATE_TEST_SUITE_P(PoliciesWithHost, PolicyRun, ::testing::ValuesIn(every_policy(4096)),
                         letters);

// One large request among an endless stream of small young ones that rank would always prefer.
TEST(PolicyBound, ALargeRequestIsServedWithinItsBound) {
  Options options;
  options.rank_weight = 1e6;
  options.rank_horizon = 1e6;
  options.starvation_threshold = 100;
  options.starvation_seconds = 3.0;
  TinyEngine engine(2048, 8, options);
  SessionHandle next = 0;
  const auto small = [&] {
    Turn turn{.session = next++, .prompt = 100, .output = 20, .hints = {}};
    turn.hints.final_turn = true;
    engine.arrive(turn);
  };
  for (int i = 0; i < 20; ++i) small();
  const RequestHandle large =
      engine.arrive({.session = next++, .prompt = 1500, .output = 30, .hints = {}});
  const Seconds arrived = engine.now;
  while (!engine.is_running(large) && engine.now < arrived + 60.0) {
    small();
    engine.step();
    ASSERT_FALSE(HasFatalFailure());
  }
  // The bound, the turns of the 20 older sessions (8 at a time, 20 steps each), and one drain.
  EXPECT_LT(engine.now - arrived, 3.0 + 4 * 20 * TinyEngine::kStep + 1.0);
}

TEST(PolicyBound, WithoutPressureTheOrderIsArrivalOrder) {
  TinyEngine engine(65536, 4, Options{});
  std::vector<RequestHandle> order;
  for (SessionHandle session = 0; session < 12; ++session) {
    order.push_back(engine.arrive({.session = session, .prompt = 64, .output = 8, .hints = {}}));
    engine.now += 0.5;
  }
  EXPECT_EQ(engine.core.waiting_order(99), order);
}

}  // namespace
}  // namespace lamps
