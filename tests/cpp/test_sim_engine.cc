// SPDX-License-Identifier: Apache-2.0
// Tiny cases, added up by hand. A step takes 1 s, 1 ms per token beyond one per request, and 10 ms
// per request; blocks hold 4 tokens.
#include <gtest/gtest.h>

#include "sim/engine.h"
#include "sim_scene.h"

namespace lamps::sim {
namespace {

using testing::small_engine;
using testing::TableBuilder;
using testing::times_of;

Simulation run(const EngineModel& engine, const SessionTable& table, Scheduling scheduling,
               const Options& policy = {}) {
  SimulationOptions options;
  options.scheduling = scheduling;
  options.check_every = 1;
  return {engine, table, {.starts = Starts::kGiven}, policy, options};
}

TEST(VirtualEngine, OneSession) {
  const SessionTable table = TableBuilder().session(0.0, {{10, 3}}).table();
  for (const Scheduling each : {Scheduling::kFcfs, Scheduling::kPriority, Scheduling::kCore}) {
    Simulation simulation = run(small_engine(8), table, each);
    simulation.run({}, 1);
    EXPECT_NEAR(times_of(simulation)[0].first_token, 1.019, 1e-12);
    EXPECT_NEAR(times_of(simulation)[0].end, 3.039, 1e-12);
    EXPECT_EQ(simulation.engines()[0].totals().steps, 3);
    EXPECT_EQ(simulation.engines()[0].totals().output_tokens, 3);
  }
}

TEST(VirtualEngine, WhoComesDuringAStepJoinsTheNext) {
  const SessionTable table = TableBuilder().session(0.0, {{10, 3}}).session(0.5, {{6, 1}}).table();
  Simulation simulation = run(small_engine(8), table, Scheduling::kFcfs);
  simulation.run({}, 1);
  EXPECT_NEAR(times_of(simulation)[1].admitted, 1.019, 1e-12);
  EXPECT_NEAR(times_of(simulation)[1].first_token, 1.019 + 1.025, 1e-12);
}

TEST(VirtualEngine, PlannedAheadItJoinsTheOneAfterThat) {
  EngineModel engine = small_engine(8);
  engine.ahead = true;
  const SessionTable table = TableBuilder().session(0.0, {{10, 4}}).session(0.5, {{6, 1}}).table();
  Simulation simulation = run(engine, table, Scheduling::kFcfs);
  simulation.run({}, 1);
  EXPECT_NEAR(times_of(simulation)[0].first_token, 1.019, 1e-12);
  EXPECT_NEAR(times_of(simulation)[1].first_token, 1.019 + 1.01 + 1.025, 1e-12);
  EXPECT_EQ(simulation.engines()[0].totals().steps, 4);  // none too many for the last token
}

TEST(VirtualEngine, LongPromptsAreComputedInChunks) {
  EngineModel engine = small_engine(8);
  engine.step_tokens = 8;
  const SessionTable table = TableBuilder().session(0.0, {{20, 1}}).table();
  Simulation simulation = run(engine, table, Scheduling::kFcfs);
  simulation.run({}, 1);
  EXPECT_NEAR(times_of(simulation)[0].first_token, 1.017 + 1.017 + 1.013, 1e-12);
}

TEST(VirtualEngine, AttentionCostsByContext) {
  EngineModel engine = small_engine(8);
  engine.step_tokens = 8;
  engine.cost.per_context = 0.001;
  engine.per_prefill_context = 0.001;
  const SessionTable table = TableBuilder().session(0.0, {{12, 2}}).table();
  Simulation simulation = run(engine, table, Scheduling::kFcfs);
  simulation.run({}, 1);
  const double first = 1.017 + 0.001 * 8 * 4;                // 8 tokens after 0
  const double second = 1.013 + 0.001 * 8 + 0.001 * 4 * 10;  // 4 tokens after 8
  const double third = 1.01 + 0.001 * 12;                    // a decode step has no prefill part
  EXPECT_NEAR(times_of(simulation)[0].first_token, first + second, 1e-12);
  EXPECT_NEAR(times_of(simulation)[0].end, first + second + third, 1e-12);
}

// Two of 16 tokens in 6 blocks: at its 13th token the first one preempts the second, which computes
// again what was evicted for the first.
TEST(VirtualEngine, PreemptionByRecomputation) {
  const SessionTable table = TableBuilder().session(0.0, {{8, 8}}).session(0.0, {{8, 8}}).table();
  for (const Scheduling each : {Scheduling::kFcfs, Scheduling::kPriority}) {
    Simulation simulation = run(small_engine(6), table, each);
    simulation.run({}, 1);
    EXPECT_NEAR(times_of(simulation)[0].end, 1.034 + 4 * 1.02 + 3 * 1.01, 1e-12);
    EXPECT_NEAR(times_of(simulation)[1].end, 8.144 + 1.014 + 2 * 1.01, 1e-12);
    const TurnColumns& turns = simulation.recorder().turns();
    EXPECT_EQ(turns.preemptions[0], 0);
    EXPECT_EQ(turns.preemptions[1], 1);
    EXPECT_EQ(turns.recomputed_tokens[1], 4);  // 12 were computed, 8 of them still cached
    EXPECT_EQ(simulation.engines()[0].totals().recomputed_after_preemption, 4);
  }
}

TEST(VirtualEngine, PriorityServesOlderSessionsFirst) {
  EngineModel engine = small_engine(8);
  engine.max_running = 1;
  const SessionTable table = TableBuilder()
                                 .session(0.0, {{4, 2, 1.5}, {4, 1}})
                                 .session(0.1, {{4, 2}})
                                 .session(0.2, {{4, 1}})
                                 .table();
  Simulation fcfs = run(engine, table, Scheduling::kFcfs);
  fcfs.run({}, 1);
  Simulation priority = run(engine, table, Scheduling::kPriority);
  priority.run({}, 1);
  // The first session returns while the second runs and the third waits. Rows: as sent.
  EXPECT_LT(times_of(fcfs)[2].end, times_of(fcfs)[3].end);
  EXPECT_LT(times_of(priority)[3].end, times_of(priority)[2].end);
}

TEST(VirtualEngine, AReturningTurnFindsItsFullBlocks) {
  const SessionTable table = TableBuilder().session(0.0, {{8, 5, 2.0}, {3, 1}}).table();
  for (const Scheduling each : {Scheduling::kFcfs, Scheduling::kCore}) {
    Simulation simulation = run(small_engine(8), table, each);
    simulation.run({}, 1);
    const TurnColumns& turns = simulation.recorder().turns();
    EXPECT_EQ(turns.cached_tokens[1], 12);  // 13 tokens, of which the last has no KV
    EXPECT_EQ(turns.prompt_tokens[1], 16);
    EXPECT_EQ(turns.recomputed_tokens[1], 0);
    EXPECT_NEAR(turns.sent[1], turns.end[0] + 2.0, 1e-12);
    EXPECT_NEAR(turns.end[1], turns.sent[1] + 1.013, 1e-12);
  }
}

TEST(VirtualEngine, ARewrittenHistoryFindsWhatIsLeftOfIt) {
  const SessionTable table =
      TableBuilder().session(0.0, {{8, 5, 2.0}, {6, 3, 1.0, 9}, {1, 1, 1.0}}).table();
  for (const Scheduling each : {Scheduling::kFcfs, Scheduling::kCore}) {
    Simulation simulation = run(small_engine(12), table, each);
    simulation.run({}, 1);
    const TurnColumns& turns = simulation.recorder().turns();
    EXPECT_EQ(turns.prompt_tokens[1], 15);
    EXPECT_EQ(turns.cached_tokens[1], 8);
    EXPECT_EQ(turns.recomputed_tokens[1], 1);  // the ninth token
    EXPECT_EQ(turns.cached_tokens[2], 16);     // 18 tokens, 17 with KV
  }
}

TEST(VirtualEngine, AGroupSharesItsPrefix) {
  const SessionTable table = TableBuilder()
                                 .session(0.0, {{10, 4}}, 0, 9)
                                 .session(0.5, {{12, 1}}, 0, 9)
                                 .session(0.6, {{12, 1}}, 1, 9)
                                 .table();
  Simulation simulation = run(small_engine(12), table, Scheduling::kFcfs);
  simulation.run({}, 1);
  const TurnColumns& turns = simulation.recorder().turns();
  EXPECT_EQ(turns.cached_tokens[1], 8);
  EXPECT_EQ(turns.cached_tokens[2], 0);
  EXPECT_EQ(simulation.engines()[0].totals().cached_tokens, 8);
}

// A pool of 6 blocks: the second session evicts the first one's KV while its call lasts.
TEST(VirtualEngine, TheHostTierLoadsWhatWasEvicted) {
  EngineModel engine = small_engine(6);
  const SessionTable table =
      TableBuilder().session(0.0, {{8, 5, 20.0}, {3, 1}}).session(6.0, {{20, 3}}).table();
  Simulation without = run(engine, table, Scheduling::kFcfs);
  without.run({}, 1);
  EXPECT_EQ(without.recorder().turns().recomputed_tokens[2], 12);
  engine.host_tokens = 100;
  engine.cost.kv_bytes_per_token = 100;
  engine.cost.swap_bytes_per_s = 400.0;  // a block per second
  Simulation simulation = run(engine, table, Scheduling::kFcfs);
  simulation.run({}, 1);
  const TurnColumns& turns = simulation.recorder().turns();
  EXPECT_EQ(turns.loaded_tokens[2], 12);
  EXPECT_EQ(turns.recomputed_tokens[2], 0);
  // Three blocks in 3 s, seen by the first idle step (every 0.5 s) after it, then 4 tokens.
  EXPECT_NEAR(turns.first_token[2], turns.sent[2] + 3.0 + 1.013, 1e-9);
  EXPECT_EQ(simulation.engines()[0].stored_tokens(), 12 + 20 + 4);
}

TEST(VirtualEngine, WithoutPrefixCachingNothingIsFound) {
  EngineModel engine = small_engine(8);
  engine.prefix_caching = false;
  const SessionTable table = TableBuilder().session(0.0, {{8, 5, 2.0}, {3, 1}}).table();
  for (const Scheduling each : {Scheduling::kFcfs, Scheduling::kCore}) {
    Simulation simulation = run(engine, table, each);
    simulation.run({}, 1);
    EXPECT_EQ(simulation.recorder().turns().cached_tokens[1], 0);
    EXPECT_EQ(simulation.recorder().turns().recomputed_tokens[1], 12);
    EXPECT_EQ(simulation.engines()[0].occupancy().empty, 32);
  }
}

}  // namespace
}  // namespace lamps::sim
