// SPDX-License-Identifier: Apache-2.0
// What one engine step costs in the policy core: 64 requests run, 1,000 to 100,000 wait, some
// sessions are paused with their KV kept, and the pool is full, so that every decision has to be
// taken.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <vector>

#include "lamps/policy.h"

namespace lamps {
namespace {

constexpr std::size_t kRunning = 64;
constexpr Tokens kContext = 1000;
constexpr Tokens kHeld = 1008;  // whole blocks
constexpr Seconds kStep = 0.02;
constexpr int kWarmSteps = 3000;

// Handles that came back are given out again, as the shim does.
class Handles {
 public:
  std::int32_t take() {
    if (free_.empty()) return next_++;
    const std::int32_t handle = free_.back();
    free_.pop_back();
    return handle;
  }
  void give_back(std::int32_t handle) { free_.push_back(handle); }

 private:
  std::vector<std::int32_t> free_;
  std::int32_t next_ = 0;
};

// Keeps the numbers constant: as many requests run, wait and pause after every step as before it.
class Population {
 public:
  Population(std::size_t waiting, std::size_t paused)
      : waiting_(waiting), paused_(paused), core_(engine_for(paused), Options{}) {
    for (std::size_t i = 0; i < kRunning; ++i) {
      arrive(sessions_.take());
      start(core_.waiting_order(1).front());
    }
    fill_queue();
    for (int i = 0; i < kWarmSteps; ++i) busy_step();
  }

  // Everybody decodes one token, nothing else happens.
  void quiet_step() {
    now_ += kStep;
    for (Tokens& context : contexts_) context = context >= 2 * kContext ? kContext : context + 1;
    Tokens context = 0;
    for (const Tokens each : contexts_) context += each;
    const Tokens used = context + core_.ledger().held_tokens();
    plan_ = core_.begin_step({.now = now_,
                              .free_tokens = std::max<Tokens>(capacity() - used, 0),
                              .step_tokens = 2048,
                              .slots = 192,
                              .running = running_,
                              .context = contexts_});
    for (const SessionHandle session : plan_.forget) sessions_.give_back(session);
    core_.observe_step({0, static_cast<Tokens>(running_.size()), context}, kStep);
  }

  // Besides, one turn ends and its session pauses, a paused session returns, somebody is let in.
  void busy_step() {
    finish_oldest();
    while (core_.ledger().holders().size() > paused_ && return_one()) {
    }
    quiet_step();
    start(plan_.admit.empty() ? core_.waiting_order(1).front() : plan_.admit.front());
    fill_queue();
  }

  [[nodiscard]] bool is_as_described() const {
    core_.check_invariants();
    return core_.ledger().running() == kRunning && core_.ledger().waiting() >= waiting_ &&
           core_.ledger().waiting() <= waiting_ + paused_ + 1 &&
           core_.ledger().holders().size() >= paused_;
  }
  [[nodiscard]] const PolicyCore& core() const { return core_; }

 private:
  // Full: the running contexts grow to twice kContext and average 1.5 of it.
  static Engine engine_for(std::size_t paused) {
    const auto running = static_cast<Tokens>(kRunning) * kContext * 3 / 2;
    return {.capacity_tokens = running + static_cast<Tokens>(paused) * kHeld,
            .block_tokens = 16,
            .max_context = 32'768,
            .step_tokens = 2048};
  }
  [[nodiscard]] Tokens capacity() const { return core_.budget().capacity(); }

  void arrive(SessionHandle session) {
    core_.arrive(now_, {.request = requests_.take(),
                        .session = session,
                        .prompt_tokens = kContext + static_cast<Tokens>(random_() % 200),
                        .shared_tokens = 0,
                        .hints = {}});
  }
  void fill_queue() {
    while (core_.ledger().waiting() < waiting_) arrive(sessions_.take());
  }
  bool return_one() {
    for (const SessionHandle session : core_.ledger().holders()) {
      if (core_.ledger().session(session).state != SessionState::kPaused) continue;
      arrive(session);
      return true;
    }
    return false;
  }
  void start(RequestHandle request) {
    core_.admitted(now_, request, 0);
    running_.push_back(request);
    contexts_.push_back(kContext);
  }
  void finish_oldest() {
    const RequestHandle request = running_.front();
    running_.erase(running_.begin());
    contexts_.erase(contexts_.begin());
    core_.finished(now_, {.request = request,
                          .output_tokens = 40,
                          .context_tokens = kContext,
                          .held_tokens = kHeld,
                          .aborted = false});
    requests_.give_back(request);
  }

  std::size_t waiting_;
  std::size_t paused_;
  PolicyCore core_;
  std::mt19937 random_{1};
  Handles requests_;
  Handles sessions_;
  std::vector<RequestHandle> running_;
  std::vector<Tokens> contexts_;
  StepPlan plan_;
  Seconds now_ = 0.0;
};

template <void (Population::*step)()>
void time_steps(benchmark::State& state) {
  Population population(static_cast<std::size_t>(state.range(0)),
                        static_cast<std::size_t>(state.range(1)));
  if (!population.is_as_described()) {
    state.SkipWithError("the engine is not as full as the benchmark says");
    return;
  }
  for (auto _ : state) (population.*step)();
  population.core().check_invariants();
  const Ledger& ledger = population.core().ledger();
  state.counters["kept"] = static_cast<double>(ledger.holders().size());
  state.counters["sessions"] = static_cast<double>(ledger.sessions());
}

void QuietStep(benchmark::State& state) { time_steps<&Population::quiet_step>(state); }
void BusyStep(benchmark::State& state) { time_steps<&Population::busy_step>(state); }

BENCHMARK(QuietStep)
    ->ArgNames({"waiting", "paused"})
    ->ArgsProduct({{1'000, 10'000, 100'000}, {0}})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(BusyStep)
    ->ArgNames({"waiting", "paused"})
    ->ArgsProduct({{1'000, 10'000, 100'000}, {0, 64}})
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace lamps
