// SPDX-License-Identifier: Apache-2.0
// What one rank, one handling decision, one calibration step and one prediction cost. Each is
// checked against a number computed by hand before it is timed.
#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

#include "lamps/cost_model.h"
#include "lamps/log_histogram.h"
#include "lamps/memory_time.h"
#include "lamps/waste.h"

namespace lamps {
namespace {

constexpr Seconds kDecodeStep = 0.02;
constexpr Tokens kChunk = 500;
constexpr int kCases = 1024;  // different inputs in turn, so that no branch is learned by heart

CostModel simple_cost() {
  return CostModel({.base = 0.010,
                    .per_prefill = 1.0e-4,
                    .per_decode = 0.0,
                    .per_context = 0.0,
                    .swap_bytes_per_s = 1.0e6,
                    .kv_bytes_per_token = 1000});
}

// True, or the benchmark is stopped with an error.
bool answer_is(benchmark::State& state, double answer, double expected) {
  if (std::abs(answer - expected) <= 1e-9 * std::abs(expected)) return true;
  state.SkipWithError("wrong answer");
  return false;
}

Outlook outlook_of(int i) {
  return {.context_tokens = 1000 + i,
          .cached_tokens = i % 3 == 0 ? 500 : 0,
          .output_tokens = 50.0 + i % 7,
          .handling = static_cast<Handling>(i % 3),
          .call_seconds = 2.0,
          .p_return = 0.5,
          .further_segments = 1.0};
}

void MemoryOverTime(benchmark::State& state) {
  const CostModel cost = simple_cost();
  const Outlook known{.context_tokens = 1000,
                      .cached_tokens = 0,
                      .output_tokens = 50,
                      .handling = Handling::kPreserve,
                      .call_seconds = 2.0,
                      .p_return = 0.5,
                      .further_segments = 0.0};
  // 0.12 s * 500 tokens + 1 s * 1025 tokens + 0.5 * 2 s * 1050 tokens
  if (!answer_is(state, memory_over_time(known, cost, kDecodeStep, kChunk), 2135.0)) return;
  std::vector<Outlook> cases;
  for (int i = 0; i < kCases; ++i) cases.push_back(outlook_of(i));
  std::size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(memory_over_time(cases[next++ % kCases], cost, kDecodeStep, kChunk));
  }
}
BENCHMARK(MemoryOverTime);

PauseContext pause_of(int i) {
  return {.context_tokens = 1000 + i,
          .other_tokens = 4000,
          .expected_remaining = 0.1 * (i % 50),
          .p_return = 0.5,
          .pressure = 0.25 * (i % 4),
          .loss_share = 0.8,
          .chunk = kChunk,
          .host_memory_free = i % 2 == 0};
}

void WasteAndChoice(benchmark::State& state) {
  const CostModel cost = simple_cost();
  PauseContext known = pause_of(0);
  known.expected_remaining = 2.0;
  known.pressure = 0.25;
  const Waste waste = waste_of(known, cost);
  // 1000 * 2 s * 0.25; 0.12 s * 4500 * 0.5 * 0.8; 1 s * 1000 * 1.5
  if (!answer_is(state, waste.preserve, 500.0)) return;
  if (!answer_is(state, waste.discard, 216.0)) return;
  if (!answer_is(state, waste.swap, 1500.0)) return;
  std::vector<PauseContext> cases;
  for (int i = 0; i < kCases; ++i) cases.push_back(pause_of(i));
  std::size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(least_waste(waste_of(cases[next++ % kCases], cost)));
  }
}
BENCHMARK(WasteAndChoice);

void ObserveStep(benchmark::State& state) {
  CostModel cost = simple_cost();
  const CostModel truth = simple_cost();
  std::vector<StepLoad> cases;
  for (int i = 0; i < kCases; ++i) cases.push_back({i % 5 == 0 ? 256 : 0, 1 + i % 64, 100 * i});
  for (const StepLoad& load : cases) cost.observe_step(load, truth.step_time(load));
  // Exact steps leave exact parameters as they are.
  if (!answer_is(state, cost.parameters().base, truth.parameters().base)) return;
  std::size_t next = 0;
  for (auto _ : state) {
    const StepLoad& load = cases[next++ % kCases];
    cost.observe_step(load, 1.01 * truth.step_time(load));
  }
  benchmark::DoNotOptimize(cost.parameters().base);
}
BENCHMARK(ObserveStep);

LogHistogram spread_histogram() {
  LogHistogram histogram(1.0e-3, 1.0e4, 1.0);
  for (int i = 1; i <= kCases; ++i) histogram.observe(0.01 * i);
  return histogram;
}

void HistogramObserve(benchmark::State& state) {
  LogHistogram histogram = spread_histogram();
  if (!answer_is(state, histogram.mean(), 0.01 * (kCases + 1) / 2.0)) return;
  int next = 0;
  for (auto _ : state) histogram.observe(0.01 * (++next % kCases));
  benchmark::DoNotOptimize(histogram.weight());
}
BENCHMARK(HistogramObserve);

void HistogramExpectedRemaining(benchmark::State& state) {
  const LogHistogram histogram = spread_histogram();
  if (!answer_is(state, histogram.expected_remaining(0.0), 0.01 * (kCases + 1) / 2.0)) return;
  int next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(histogram.expected_remaining(0.01 * (++next % kCases)));
  }
}
BENCHMARK(HistogramExpectedRemaining);

}  // namespace
}  // namespace lamps
