// SPDX-License-Identifier: Apache-2.0
// The ready queue against other ways to keep an order, at 1,000 to 100,000 waiting requests. Every
// operation is followed by the question a scheduler asks: who is next? Before a queue is timed, its
// answers are compared with those of an ordered set.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <vector>

#include "lamps/ready_queue.h"
#include "queue_rivals.h"

namespace lamps {
namespace {

using rivals::RebuiltHeapQueue;
using rivals::SetQueue;
using rivals::SortedQueue;

// Keys and handles drawn beforehand, so that drawing is not timed.
class Script {
 public:
  Script(std::size_t waiting, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> deadline(0.0, 1000.0);
    for (std::size_t i = 0; i < kLength; ++i) {
      keys_.push_back({static_cast<std::uint8_t>(random() % 3), deadline(random), i});
      handles_.push_back(static_cast<RequestHandle>(random() % waiting));
    }
  }
  const ReadyKey& key() { return keys_[next_++ % kLength]; }
  RequestHandle handle() { return handles_[next_ % kLength]; }

 private:
  static constexpr std::size_t kLength = 1 << 14;
  std::vector<ReadyKey> keys_;
  std::vector<RequestHandle> handles_;
  std::size_t next_ = 0;
};

template <typename Queue>
Queue filled(std::size_t waiting, Script& script) {
  Queue queue;
  for (std::size_t i = 0; i < waiting; ++i) queue.push(static_cast<RequestHandle>(i), script.key());
  return queue;
}

template <typename Queue>
void replace_first(Queue& queue, Script& script) {
  queue.push(queue.pop(), script.key());
}

template <typename Queue>
void rekey_any(Queue& queue, Script& script) {
  const RequestHandle handle = script.handle();
  queue.rekey(handle, script.key());
}

template <typename Queue>
void replace_any(Queue& queue, Script& script) {
  const RequestHandle handle = script.handle();
  queue.remove(handle);
  queue.push(handle, script.key());
}

template <typename Queue>
bool answers_are_right() {
  constexpr std::size_t kWaiting = 300;
  Script script(kWaiting, 7);
  Script same_script(kWaiting, 7);
  Queue queue = filled<Queue>(kWaiting, script);
  SetQueue expected = filled<SetQueue>(kWaiting, same_script);
  for (int i = 0; i < 1000; ++i) {
    rekey_any(queue, script);
    rekey_any(expected, same_script);
    if (queue.top() != expected.top()) return false;
    replace_first(queue, script);
    replace_first(expected, same_script);
    if (queue.top() != expected.top()) return false;
    replace_any(queue, script);
    replace_any(expected, same_script);
    if (queue.top() != expected.top()) return false;
  }
  return true;
}

template <typename Queue>
void time_operation(benchmark::State& state, void (*operation)(Queue&, Script&)) {
  static const bool right = answers_are_right<Queue>();
  if (!right) {
    state.SkipWithError("the queue's order differs from that of an ordered set");
    return;
  }
  const auto waiting = static_cast<std::size_t>(state.range(0));
  Script script(waiting, 1);
  Queue queue = filled<Queue>(waiting, script);
  for (auto _ : state) {
    operation(queue, script);
    benchmark::DoNotOptimize(queue.top());
  }
  state.SetItemsProcessed(state.iterations());
}

template <typename Queue>
void PopPush(benchmark::State& state) {
  time_operation<Queue>(state, replace_first<Queue>);
}
template <typename Queue>
void Rekey(benchmark::State& state) {
  time_operation<Queue>(state, rekey_any<Queue>);
}
template <typename Queue>
void RemovePush(benchmark::State& state) {
  time_operation<Queue>(state, replace_any<Queue>);
}

void waiting_counts(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgName("waiting")->Arg(1'000)->Arg(10'000)->Arg(100'000);
}

BENCHMARK(PopPush<ReadyQueue>)->Apply(waiting_counts);
BENCHMARK(PopPush<SetQueue>)->Apply(waiting_counts);
BENCHMARK(PopPush<RebuiltHeapQueue>)->Apply(waiting_counts);
BENCHMARK(PopPush<SortedQueue>)->Apply(waiting_counts);
BENCHMARK(Rekey<ReadyQueue>)->Apply(waiting_counts);
BENCHMARK(Rekey<SetQueue>)->Apply(waiting_counts);
BENCHMARK(Rekey<RebuiltHeapQueue>)->Apply(waiting_counts);
BENCHMARK(Rekey<SortedQueue>)->Apply(waiting_counts);
BENCHMARK(RemovePush<ReadyQueue>)->Apply(waiting_counts);
BENCHMARK(RemovePush<SetQueue>)->Apply(waiting_counts);
BENCHMARK(RemovePush<RebuiltHeapQueue>)->Apply(waiting_counts);
BENCHMARK(RemovePush<SortedQueue>)->Apply(waiting_counts);

}  // namespace
}  // namespace lamps
