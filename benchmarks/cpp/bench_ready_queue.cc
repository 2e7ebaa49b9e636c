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

// Sessions arrive 100 times a second; a virtual deadline is the arrival plus up to 20 s of rank;
// one request in 20 is a resident's returning turn. Random numbers are drawn beforehand, outside
// the timing.
class Script {
 public:
  Script(std::size_t waiting, unsigned seed) : arrivals_(waiting) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> rank(0.0, 20.0);
    for (std::size_t i = 0; i < kLength; ++i) {
      ranks_.push_back(rank(random));
      handles_.push_back(static_cast<RequestHandle>(random() % waiting));
    }
  }
  ReadyKey arriving(RequestHandle handle) {
    arrivals_[static_cast<std::size_t>(handle)] = ++sequence_;
    return refreshed(handle);
  }
  ReadyKey refreshed(RequestHandle handle) {
    const std::uint64_t sequence = arrivals_[static_cast<std::size_t>(handle)];
    const double rank = ranks_[next_++ % kLength];
    return {static_cast<std::uint8_t>(sequence % 20 == 0 ? 1 : 2),
            0.01 * static_cast<double>(sequence) + rank, sequence};
  }
  RequestHandle any_handle() { return handles_[next_ % kLength]; }

 private:
  static constexpr std::size_t kLength = 1 << 14;
  std::vector<double> ranks_;
  std::vector<RequestHandle> handles_;
  std::vector<std::uint64_t> arrivals_;  // by handle
  std::uint64_t sequence_ = 0;
  std::size_t next_ = 0;
};

template <typename Queue>
Queue filled(std::size_t waiting, Script& script) {
  Queue queue;
  for (std::size_t i = 0; i < waiting; ++i) {
    const auto handle = static_cast<RequestHandle>(i);
    queue.push(handle, script.arriving(handle));
  }
  return queue;
}

// The first is served, and a new request arrives.
template <typename Queue>
void replace_first(Queue& queue, Script& script) {
  const RequestHandle handle = queue.pop();
  queue.push(handle, script.arriving(handle));
}

// A rank is refreshed.
template <typename Queue>
void rekey_any(Queue& queue, Script& script) {
  const RequestHandle handle = script.any_handle();
  queue.rekey(handle, script.refreshed(handle));
}

// A client goes away, and a new request arrives.
template <typename Queue>
void replace_any(Queue& queue, Script& script) {
  const RequestHandle handle = script.any_handle();
  queue.remove(handle);
  queue.push(handle, script.arriving(handle));
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
