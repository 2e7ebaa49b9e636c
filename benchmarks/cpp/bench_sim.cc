// SPDX-License-Identifier: Apache-2.0
// How fast simulated time passes: engine steps per second without a policy core (stock vLLM's
// rules) and with one, and a run of millions of requests in bounded memory.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "sim/simulation.h"

namespace lamps::sim {
namespace {

constexpr int kTemplates = 2000;

// Sessions of 1 to 9 turns: a first prompt of about 600 tokens, tool results of about 100, outputs
// of about `output` tokens, calls of about a second; a third of them begin with one of four
// prefixes.
SessionTable sessions(int output) {
  std::mt19937_64 random(1);
  const auto about = [&](int mean) {
    return static_cast<std::int32_t>(1 + random() % static_cast<std::uint64_t>(2 * mean - 1));
  };
  SessionTable table;
  table.first_segment.push_back(0);
  for (int i = 0; i < kTemplates; ++i) {
    const std::int32_t turns = about(5);
    for (std::int32_t turn = 0; turn < turns; ++turn) {
      table.prompt_tokens.push_back(turn == 0 ? 100 + about(500) : about(100));
      table.output_tokens.push_back(about(output));
      table.call_seconds.push_back(0.001 * about(1000));
    }
    table.first_segment.push_back(table.segments());
    const bool shares = random() % 3 == 0;
    table.shared_group.push_back(shares ? static_cast<std::int32_t>(random() % 4) : -1);
    table.shared_tokens.push_back(shares ? 96 : 0);
  }
  return table;
}

EngineModel engine_for(std::int64_t running) {
  EngineModel engine;
  engine.capacity_tokens = running * 1600;
  engine.block_tokens = 16;
  engine.max_context = 8192;
  engine.max_running = running;
  return engine;
}

double resident_mib() {
  std::ifstream status("/proc/self/statm");
  double pages = 0.0, resident = 0.0;
  status >> pages >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

void simulate(benchmark::State& state, Scheduling scheduling, const Load& load, int output,
              std::int64_t running, std::int64_t engines) {
  const SessionTable table = sessions(output);
  SimulationOptions options;
  options.scheduling = scheduling;
  options.record_turns = false;
  options.engines = engines;
  std::int64_t steps = 0, turns = 0, served = 0;
  double before = 0.0, after = 0.0;
  for (auto _ : state) {
    before = resident_mib();
    Simulation simulation(engine_for(running), table, load, {}, options);
    simulation.run({}, 1 << 20);
    after = resident_mib();
    if (!simulation.complete()) state.SkipWithError("a session was lost");
    for (const VirtualEngine& engine : simulation.engines()) {
      steps += engine.totals().steps + engine.totals().empty_steps;
      served += engine.totals().output_tokens;
    }
    turns += simulation.recorder().sent();
  }
  using benchmark::Counter;
  state.counters["steps_per_s"] = Counter(static_cast<double>(steps), Counter::kIsRate);
  state.counters["turns_per_s"] = Counter(static_cast<double>(turns), Counter::kIsRate);
  state.counters["turns"] = static_cast<double>(turns) / static_cast<double>(state.iterations());
  state.counters["batch"] = static_cast<double>(served) / static_cast<double>(steps);
  state.counters["grown_MiB"] = after - before;
}

// As many sessions as may run, and half as many again: somebody always waits.
void Stock(benchmark::State& state) {
  const std::int64_t running = state.range(0);
  simulate(state, Scheduling::kFcfs,
           {.starts = Starts::kClosed, .concurrency = running * 3 / 2, .sessions = 4000}, 200,
           running, 1);
}
void Core(benchmark::State& state) {
  const std::int64_t running = state.range(0);
  simulate(state, Scheduling::kCore,
           {.starts = Starts::kClosed, .concurrency = running * 3 / 2, .sessions = 1000}, 200,
           running, 1);
}
void StockEightEngines(benchmark::State& state) {
  simulate(state, Scheduling::kFcfs,
           {.starts = Starts::kClosed, .concurrency = 8 * 96, .sessions = 8000}, 200, 64, 8);
}
// Two million sessions make ten million requests.
void TenMillionRequests(benchmark::State& state) {
  simulate(state, Scheduling::kFcfs,
           {.starts = Starts::kClosed, .concurrency = 96, .sessions = 2'000'000}, 40, 64, 1);
}

BENCHMARK(Stock)->Arg(16)->Arg(64)->Arg(256)->Unit(benchmark::kMillisecond);
BENCHMARK(Core)->Arg(16)->Arg(64)->Unit(benchmark::kMillisecond);
BENCHMARK(StockEightEngines)->Unit(benchmark::kMillisecond);
BENCHMARK(TenMillionRequests)->Iterations(1)->Unit(benchmark::kSecond);

}  // namespace
}  // namespace lamps::sim
