// SPDX-License-Identifier: Apache-2.0
// What finding a session costs among many, for prompts of 100k tokens in blocks of 16: the next
// turn of a session, a new session behind a shared system prompt, a history rewritten at its end.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>

#include "lamps/session_index.h"

namespace lamps {
namespace {

constexpr std::size_t kBlock = 16;
constexpr std::size_t kBlocks = 6250;         // 100k tokens
constexpr std::size_t kSystem = 940;          // 15k tokens that all sessions share
constexpr std::size_t kSessionBlocks = 1000;  // of a session in the index, but for the long ones
constexpr int kLongSessions = 64;             // those that are looked up: 100k tokens each

std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// A chain that is the system prompt's, then a session's, then (from `own` on) somebody else's.
class Chain final : public PromptChain {
 public:
  Chain(std::uint64_t session, std::size_t blocks, std::size_t own = SIZE_MAX,
        std::uint64_t other = 0)
      : session_(session), blocks_(blocks), own_(own), other_(other) {}
  [[nodiscard]] std::size_t blocks() const override { return blocks_; }
  [[nodiscard]] std::uint64_t hash(std::size_t block) const override {
    const std::uint64_t who = block < kSystem ? 0 : block < own_ ? session_ + 1 : other_;
    return mix(mix(who + 1) + block);
  }
  [[nodiscard]] std::size_t tokens() const override { return 0; }
  [[nodiscard]] std::int32_t token(std::size_t) const override { return 0; }

 private:
  std::uint64_t session_;
  std::size_t blocks_;
  std::size_t own_;
  std::uint64_t other_;
};

std::unique_ptr<SessionIndex> index_of(std::int64_t sessions) {
  auto index = std::make_unique<SessionIndex>(kBlock);
  for (std::int64_t i = 0; i < sessions; ++i) {
    const auto who = static_cast<std::uint64_t>(i);
    const std::size_t blocks = i < kLongSessions ? kBlocks - 100 : kSessionBlocks + who % 97;
    for (const std::size_t part : {3, 2, 1}) {  // three turns
      const std::size_t end = kSystem + (blocks - kSystem) / part;
      index->begin(static_cast<SessionHandle>(i), Chain(who, end - 20));
      index->finish(static_cast<SessionHandle>(i), Chain(who, end), false);
    }
  }
  return index;
}

template <typename MakePrompt>
void look_up(benchmark::State& state, SessionIndex::Relation expected, const MakePrompt& prompt) {
  const auto index = index_of(state.range(0));
  if (index->find(prompt(5)).relation != expected) {
    state.SkipWithError("wrong answer");
    return;
  }
  std::uint64_t next = 0;
  for (auto _ : state) benchmark::DoNotOptimize(index->find(prompt(next++ % kLongSessions)));
}

void NextTurn(benchmark::State& state) {
  look_up(state, SessionIndex::Relation::kContinues,
          [](std::uint64_t i) { return Chain(i, kBlocks, kBlocks - 100, 1'000'000'007); });
}
void NewSession(benchmark::State& state) {
  look_up(state, SessionIndex::Relation::kNew,
          [](std::uint64_t i) { return Chain(i, kBlocks, kSystem, 2'000'000'011 + i); });
}
void RewrittenEnd(benchmark::State& state) {
  look_up(state, SessionIndex::Relation::kEdits,
          [](std::uint64_t i) { return Chain(i, kBlocks, kBlocks - 300, 3'000'000'019 + i); });
}

BENCHMARK(NextTurn)->Arg(1'000)->Arg(100'000)->Unit(benchmark::kMicrosecond);
BENCHMARK(NewSession)->Arg(1'000)->Arg(100'000)->Unit(benchmark::kMicrosecond);
BENCHMARK(RewrittenEnd)->Arg(1'000)->Arg(100'000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace lamps
