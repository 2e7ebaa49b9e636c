// SPDX-License-Identifier: Apache-2.0
// Whole runs on random sessions: nothing is lost or made up, whoever schedules and routes.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "lamps/errors.h"
#include "lamps/policy_name.h"
#include "sim/simulation.h"
#include "sim_scene.h"

namespace lamps::sim {
namespace {

using testing::random_table;
using testing::small_engine;

constexpr Tokens kLongest = 128;

EngineModel crowded_engine() {
  EngineModel engine = small_engine(48);  // 192 tokens: hardly two of the longest
  engine.max_context = kLongest;
  engine.step_tokens = 48;
  engine.cost.base = 0.05;
  return engine;
}

void check_rows(const SessionTable& table, const Simulation& simulation) {
  ASSERT_TRUE(simulation.complete());
  const TurnColumns& turns = simulation.recorder().turns();
  const SessionColumns& sessions = simulation.recorder().sessions();
  ASSERT_EQ(static_cast<std::int64_t>(sessions.row.size()), table.sessions());
  std::vector<std::int64_t> served(sessions.row.size(), 0);
  std::vector<Seconds> due = sessions.arrival;
  Tokens produced = 0;
  for (std::size_t i = 0; i < turns.end.size(); ++i) {
    const auto session = static_cast<std::size_t>(turns.session[i]);
    const auto row = static_cast<std::size_t>(sessions.row[session]);
    ASSERT_EQ(turns.segment[i], served[session]++);  // in order, none twice
    const auto segment = static_cast<std::size_t>(table.first_segment[row] + turns.segment[i]);
    ASSERT_EQ(turns.sent[i], due[session]);
    ASSERT_LE(turns.sent[i], turns.admitted[i]);
    ASSERT_LT(turns.admitted[i], turns.first_token[i]);
    ASSERT_LE(turns.first_token[i], turns.end[i]);
    ASSERT_LE(turns.cached_tokens[i] + turns.loaded_tokens[i],
              (turns.prompt_tokens[i] + turns.output_tokens[i]) * (1 + turns.preemptions[i]));
    due[session] = turns.end[i] + table.call_seconds[segment];
    produced += table.output_tokens[segment];
    if (static_cast<std::int64_t>(segment) + 1 == table.first_segment[row + 1]) {
      ASSERT_EQ(sessions.end[session], turns.end[i]);
    }
  }
  ASSERT_EQ(std::accumulate(served.begin(), served.end(), std::int64_t{0}), table.segments());
  Tokens sampled = 0;
  for (const VirtualEngine& engine : simulation.engines()) {
    sampled += engine.totals().output_tokens;
    ASSERT_EQ(engine.running() + engine.waiting(), 0U);
  }
  ASSERT_EQ(sampled, produced);
}

struct Arm {
  const char* name;
  Scheduling scheduling;
  PolicyName policy = PolicyName::kLamps;
  Routing routing = Routing::kSticky;
  std::int64_t engines = 1;
  bool ahead = false;
  Tokens host_tokens = 0;
  HostUse host_use = HostUse::kOffload;
};

const std::vector<Arm>& arms() {
  static const std::vector<Arm> all = [] {
    std::vector<Arm> list = {
        {"fcfs", Scheduling::kFcfs},
        {"priority", Scheduling::kPriority},
        {"fcfs ahead", Scheduling::kFcfs, {}, {}, 1, true},
        {"lamps ahead", Scheduling::kCore, PolicyName::kLamps, {}, 1, true},
        {"fcfs offload", Scheduling::kFcfs, {}, {}, 1, false, 400},
        {"fcfs offload ahead", Scheduling::kFcfs, {}, {}, 1, true, 100},
        {"lamps offload", Scheduling::kCore, PolicyName::kLamps, {}, 1, false, 400},
        {"lamps swap", Scheduling::kCore, PolicyName::kLamps, {}, 1, false, 400, HostUse::kSwap},
        {"infercept swap",
         Scheduling::kCore,
         PolicyName::kInfercept,
         {},
         1,
         false,
         100,
         HostUse::kSwap},
        {"lamps swap ahead",
         Scheduling::kCore,
         PolicyName::kLamps,
         {},
         1,
         true,
         200,
         HostUse::kSwap},
        {"lamps swap round robin", Scheduling::kCore, PolicyName::kLamps, Routing::kRoundRobin, 2,
         false, 200, HostUse::kSwap},
        {"fcfs round robin", Scheduling::kFcfs, {}, Routing::kRoundRobin, 3},
        {"lamps sticky", Scheduling::kCore, PolicyName::kLamps, Routing::kSticky, 3},
        {"lamps least loaded", Scheduling::kCore, PolicyName::kLamps, Routing::kLeastLoaded, 2},
    };
    for (const NamedPolicy& each : kPolicies) {
      list.push_back({each.name.data(), Scheduling::kCore, each.policy});
    }
    return list;
  }();
  return all;
}

Simulation make(const Arm& arm, const SessionTable& table, std::int64_t check_every) {
  EngineModel engine = crowded_engine();
  engine.ahead = arm.ahead;
  engine.host_tokens = arm.host_tokens;
  engine.host_use = arm.host_use;
  engine.cost.kv_bytes_per_token = 1000;
  engine.cost.swap_bytes_per_s = 1e6;
  SimulationOptions options;
  options.scheduling = arm.scheduling;
  options.routing = arm.routing;
  options.engines = arm.engines;
  options.check_every = check_every;
  options.record_decisions = true;
  options.sample_seconds = 0.5;
  Options policy;
  policy.policy = arm.policy;
  return {engine, table, {.starts = Starts::kGiven}, policy, options};
}

class EveryArm : public ::testing::TestWithParam<std::size_t> {};

TEST_P(EveryArm, ServesEverybodyAndLosesNothing) {
  const Arm& arm = arms()[GetParam()];
  SCOPED_TRACE(arm.name);
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    SCOPED_TRACE(seed);
    const SessionTable table = random_table(seed, 40, kLongest);
    Simulation simulation = make(arm, table, 1);
    simulation.run({}, 1);
    simulation.check_invariants();
    check_rows(table, simulation);
    if (HasFatalFailure()) return;
  }
}

TEST_P(EveryArm, IsDeterministic) {
  const SessionTable table = random_table(99, 60, kLongest);
  Simulation first = make(arms()[GetParam()], table, 0);
  Simulation second = make(arms()[GetParam()], table, 0);
  first.run({}, 1);
  second.run({}, 1000);
  EXPECT_EQ(first.now(), second.now());
  EXPECT_EQ(first.recorder().turns().end, second.recorder().turns().end);
  EXPECT_EQ(first.recorder().turns().admitted, second.recorder().turns().admitted);
  EXPECT_EQ(first.recorder().samples().running_tokens, second.recorder().samples().running_tokens);
}

INSTANTIATE_TEST_SUITE_P(Simulation, EveryArm, ::testing::Range<std::size_t>(0, arms().size()),
                         [](const auto& info) {
                           std::string name = arms()[info.param].name;
                           for (char& c : name) c = std::isalnum(c) ? c : '_';
                           return name + "_" + std::to_string(info.param);
                         });

TEST(Simulation, FcfsOfTheCoreIsStockFcfs) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const SessionTable table = random_table(seed, 60, kLongest);
    for (const auto& [stock, policy] : {std::pair{Scheduling::kFcfs, PolicyName::kFcfs},
                                        {Scheduling::kPriority, PolicyName::kSessionFcfs}}) {
      Simulation plain = make({"", stock}, table, 0);
      Simulation core = make({"", Scheduling::kCore, policy}, table, 0);
      plain.run({}, 1);
      core.run({}, 1);
      EXPECT_EQ(plain.recorder().turns().end, core.recorder().turns().end) << seed;
      EXPECT_EQ(plain.recorder().turns().cached_tokens, core.recorder().turns().cached_tokens);
    }
  }
}

// Once a turn has waited for the bound, no younger session is let in before it; once a first turn
// has, no younger session begins before it.
TEST(Simulation, TheBoundOnWaitingHolds) {
  constexpr Seconds kBound = 2.0;
  int overdue = 0;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const SessionTable table = random_table(seed, 80, kLongest);
    EngineModel engine = crowded_engine();
    Options policy;
    policy.starvation_threshold = 1;
    policy.starvation_seconds = kBound;
    SimulationOptions options;
    Simulation simulation(engine, table, {.starts = Starts::kGiven}, policy, options);
    simulation.run({}, 1);
    const TurnColumns& turns = simulation.recorder().turns();
    const Seconds step = engine.step_time(engine.step_tokens, engine.max_running);
    // The engine takes sessions in with its steps: those of one step are of the same age.
    const auto begun = [&](std::size_t row) {
      return simulation.recorder().sessions().arrival[static_cast<std::size_t>(turns.session[row])];
    };
    // Twice what returning turns have usually waited counts too. Not more than twice the longest
    // of those waits, and a bin of their distribution (a quarter) on top.
    const auto usual = [&](std::size_t i) {
      Seconds longest = 0.0;
      for (std::size_t k = 0; k < turns.end.size(); ++k) {
        if (turns.segment[k] == 0 || turns.admitted[k] > turns.admitted[i]) continue;
        if (k != i) longest = std::max(longest, turns.admitted[k] - turns.sent[k]);
      }
      return 2.0 * 1.25 * longest;
    };
    for (std::size_t i = 0; i < turns.end.size(); ++i) {
      const Seconds overdue_at = turns.sent[i] + std::max(kBound, usual(i)) + 2 * step;
      if (turns.admitted[i] <= overdue_at) continue;
      ++overdue;
      for (std::size_t j = 0; j < turns.end.size(); ++j) {
        const bool overtakes = turns.admitted[j] > overdue_at &&
                               turns.admitted[j] < turns.admitted[i] &&
                               (turns.segment[i] > 0 || turns.segment[j] == 0);
        EXPECT_FALSE(overtakes && begun(j) > begun(i) + step) << seed << ": " << i << " by " << j;
      }
    }
  }
  EXPECT_GT(overdue, 20);
}

TEST(Simulation, SwapsWhereTheCoreSaysSo) {
  const SessionTable table = random_table(5, 200, kLongest);
  Simulation simulation = make(
      {"", Scheduling::kCore, PolicyName::kInfercept, {}, 1, false, 400, HostUse::kSwap}, table, 1);
  simulation.run({}, 1);
  const VirtualEngine& engine = simulation.engines()[0];
  EXPECT_GT(engine.core()->core().counters().swapped, 0);
  EXPECT_GT(engine.stored_tokens(), 0);
  EXPECT_GT(engine.totals().loaded_tokens, 0);
}

TEST(Simulation, AClosedLoopKeepsItsNumberOfSessions) {
  const SessionTable table = random_table(1, 10, kLongest);
  SimulationOptions options;
  options.scheduling = Scheduling::kFcfs;
  Simulation simulation(crowded_engine(), table,
                        {.starts = Starts::kClosed, .concurrency = 4, .sessions = 300}, {},
                        options);
  simulation.run({}, 1);
  EXPECT_TRUE(simulation.complete());
  const SessionColumns& sessions = simulation.recorder().sessions();
  ASSERT_EQ(sessions.end.size(), 300U);
  std::vector<Seconds> ends = sessions.end;
  std::sort(ends.begin(), ends.end());
  for (std::size_t i = 4; i < 300; ++i) EXPECT_EQ(sessions.arrival[i], ends[i - 4]);
}

TEST(Simulation, StopsWhenProgressSaysSo) {
  const SessionTable table = random_table(1, 50, kLongest);
  Simulation simulation = make(arms()[0], table, 0);
  int calls = 0;
  simulation.run(
      [&](const Progress& at) {
        EXPECT_EQ(at.sessions, 50);
        return ++calls < 3;
      },
      10);
  EXPECT_EQ(calls, 3);
  EXPECT_FALSE(simulation.complete());
  EXPECT_TRUE(std::isnan(simulation.recorder().sessions().end.back()));
}

TEST(Simulation, HistogramsAgreeWithTheRows) {
  const SessionTable table = random_table(3, 400, kLongest);
  Simulation simulation = make(arms()[0], table, 0);
  simulation.run({}, 1);
  const SessionColumns& sessions = simulation.recorder().sessions();
  std::vector<Seconds> times;
  for (std::size_t i = 0; i < sessions.end.size(); ++i) {
    times.push_back(sessions.end[i] - sessions.arrival[i]);
  }
  std::sort(times.begin(), times.end());
  const Distribution& measured = simulation.recorder().distributions().session;
  EXPECT_EQ(measured.count(), 400);
  EXPECT_NEAR(measured.mean(), std::accumulate(times.begin(), times.end(), 0.0) / 400, 1e-9);
  EXPECT_EQ(measured.max(), times.back());
  for (const double q : {0.1, 0.5, 0.99}) {
    const double exact = times[static_cast<std::size_t>(q * 400) - 1];
    EXPECT_NEAR(measured.quantile(q), exact, 0.03 * exact) << q;
  }
}

TEST(Simulation, SamplesCoverThePoolAndStayFew) {
  const SessionTable table = random_table(3, 10, kLongest);
  EngineModel engine = crowded_engine();
  SimulationOptions options;
  options.scheduling = Scheduling::kFcfs;
  options.sample_seconds = 0.01;
  options.record_turns = false;
  const Load load{.starts = Starts::kClosed, .concurrency = 5, .sessions = 3000};
  Simulation simulation(engine, table, load, {}, options);
  simulation.run({}, 1);
  const SampleColumns& samples = simulation.recorder().samples();
  ASSERT_GT(samples.at.size(), 2000U);
  ASSERT_LT(samples.at.size(), 8193U);
  EXPECT_GT(samples.at.back(), 0.9 * simulation.now());
  for (std::size_t i = 0; i < samples.at.size(); ++i) {
    ASSERT_EQ(samples.running_tokens[i] + samples.held_tokens[i] + samples.cached_tokens[i] +
                  samples.empty_tokens[i],
              engine.capacity_tokens);
    if (i > 1) {
      ASSERT_NEAR(samples.at[i] - samples.at[i - 1], samples.at[1], 1e-6);
    }
  }
  EXPECT_TRUE(simulation.recorder().turns().end.empty());
}

TEST(Simulation, NamesWhatItRefuses) {
  const SessionTable table = random_table(1, 5, kLongest);
  EngineModel engine = crowded_engine();
  const auto make_with = [&](const SimulationOptions& options) {
    Simulation(engine, table, {}, {}, options);
  };
  EXPECT_THROW(make_with({.engines = 0}), InvalidOption);
  EXPECT_THROW(make_with({.sample_seconds = -1.0}), InvalidOption);
  engine.host_tokens = 10;
  EXPECT_THROW(make_with({}), InvalidOption);
  engine.host_tokens = 0;
  engine.capacity_tokens = kLongest - 1;
  EXPECT_THROW(make_with({}), InvalidOption);
  EXPECT_THROW((void)scheduling_from("best"), InvalidOption);
  EXPECT_THROW((void)routing_from("best"), InvalidOption);
  EXPECT_THROW((void)host_use_from("best"), InvalidOption);
}

}  // namespace
}  // namespace lamps::sim
