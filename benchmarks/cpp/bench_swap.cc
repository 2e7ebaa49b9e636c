// SPDX-License-Identifier: Apache-2.0
// The CPU mover: page size x fragmentation x direction x path. In every iteration three things are
// timed in turn on as many bytes: our copy, a plain memcpy per block, and the fastest contiguous
// copy this binary has. Ratios are of the best times of each, for interrupted ones say nothing.
//   of_peak       our rate / rate of the contiguous copy (1 = nothing lost by scattering)
//   times_memcpy  our rate / rate of memcpy per block
// Bytes are verified, both ways, before anything is timed.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <tuple>

#include "swap/cpu_backend.h"
#include "swap/mover.h"
#include "swap_orders.h"

namespace lamps::swap {
namespace {

constexpr Bytes kDeviceBytes = Bytes{512} << 20;
constexpr Bytes kJobBytes = Bytes{64} << 20;  // twice the last-level cache of a large server core
constexpr int kJobs = static_cast<int>(kDeviceBytes / kJobBytes);  // taken in turn: nothing is warm
constexpr int kIterations = 12;

enum Fragmentation : int { kRandom, kRunsOf4, kRunsOf16, kDescending };
constexpr const char* kFragmentationNames[] = {"random", "runs-of-4", "runs-of-16", "descending"};

Seconds now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Every block of the device once, in runs of neighbours that lie in random order.
std::vector<BlockId> fragmented(BlockId blocks, Fragmentation fragmentation) {
  std::vector<BlockId> out(static_cast<std::size_t>(blocks));
  std::iota(out.begin(), out.end(), 0);
  if (fragmentation == kDescending) std::reverse(out.begin(), out.end());
  const BlockId run = fragmentation == kRunsOf4 ? 4 : fragmentation == kRunsOf16 ? 16 : 1;
  if (fragmentation == kDescending || blocks <= run) return out;
  std::vector<BlockId> starts(static_cast<std::size_t>(blocks / run));
  for (std::size_t i = 0; i < starts.size(); ++i) starts[i] = static_cast<BlockId>(i) * run;
  std::shuffle(starts.begin(), starts.end(), std::mt19937(1));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = starts[i / static_cast<std::size_t>(run)] + static_cast<BlockId>(i) % run;
  }
  return out;
}

// A device of one region, its host memory, and kJobs orders that cover it.
class World {
 public:
  World(Bytes page, Fragmentation fragmentation, bool huge)
      : page_(page),
        small_(huge ? 0 : kDeviceBytes + 64),
        huge_(huge ? kDeviceBytes : 1),
        device_(huge ? huge_.base() : (reinterpret_cast<Address>(small_.data()) + 63) / 64 * 64),
        layout_({{device_, page, page}}, static_cast<BlockId>(kDeviceBytes / page)),
        mover_(layout_, std::make_unique<CpuBackend>(1),
               {.host_rows = static_cast<Row>(kDeviceBytes / page)}, now),
        planner_(layout_),
        orders_(orders_over(fragmented(layout_.blocks(), fragmentation), kJobs)) {}

  // Plans and copies on this thread.
  void copy_here(int job, Direction direction) {
    const Order& order = orders_[static_cast<std::size_t>(job)];
    if (!planner_.find_runs(order.blocks, order.slots, runs_)) std::abort();
    moves_.reset(layout_, direction);
    moves_.add(runs_, host_of(order), order.pieces[0].extent.rows);
    const std::span<const Move> all = moves_.take({}, memory_);
    cpu_kernels().copy(all.data(), all.size());
  }
  // From submit() to the last byte, by the mover's own thread.
  Seconds copy_by_mover(int job, Direction direction) {
    Order order = orders_[static_cast<std::size_t>(job)];
    order.job = ++job_;
    order.direction = direction;
    mover_.submit({.order = std::move(order)});
    mover_.wait_idle(60);
    completions_.clear();
    mover_.poll(completions_);
    return completions_.back().ended - completions_.back().queued;
  }
  void copy_by_memcpy(int job, Direction direction) const {
    const Order& order = orders_[static_cast<std::size_t>(job)];
    const Region& device = layout_.regions()[0];
    for (std::size_t i = 0; i < order.blocks.size(); ++i) {
      auto* block = reinterpret_cast<void*>(device.base + static_cast<Address>(order.blocks[i]) *
                                                              static_cast<Address>(page_));
      auto* slot = reinterpret_cast<void*>(host_of(order) + static_cast<Address>(order.slots[i]) *
                                                                static_cast<Address>(page_));
      std::memcpy(direction == Direction::kStore ? slot : block,
                  direction == Direction::kStore ? block : slot, static_cast<std::size_t>(page_));
    }
  }
  void copy_contiguous(int job, const CpuKernels& kernels) const {
    const auto offset = static_cast<Address>(job) * static_cast<Address>(kJobBytes);
    const Move move{device_ + offset, mover_.host().base() + offset,
                    static_cast<std::uint64_t>(kJobBytes)};
    kernels.copy(&move, 1);
  }

  // Stores everything, overwrites the device, loads it back: each byte is where it was.
  [[nodiscard]] bool verified() {
    auto* device = reinterpret_cast<std::uint32_t*>(device_);
    constexpr auto kWords = static_cast<std::size_t>(kDeviceBytes) / sizeof(*device);
    const auto value = [](std::size_t i) { return static_cast<std::uint32_t>(i * 2654435761U); };
    for (const bool mover_stores : {false, true}) {  // the other one loads
      for (std::size_t i = 0; i < kWords; ++i) device[i] = value(i);
      copy_all(Direction::kStore, mover_stores);
      std::memset(device, 0xee, kDeviceBytes);
      copy_all(Direction::kLoad, !mover_stores);
      for (std::size_t i = 0; i < kWords; ++i) {
        if (device[i] != value(i)) return false;
      }
    }
    return true;
  }

 private:
  void copy_all(Direction direction, bool by_mover) {
    for (int job = 0; job < kJobs; ++job) {
      by_mover ? (void)copy_by_mover(job, direction) : copy_here(job, direction);
    }
  }
  [[nodiscard]] Address host_of(const Order& order) const {
    return mover_.host().base() +
           static_cast<Address>(order.pieces[0].extent.first * layout_.row_bytes());
  }

  Bytes page_;
  std::vector<std::byte> small_;  // in pages as malloc gets them, or
  HostMemory huge_;
  Address device_;
  Layout layout_;
  Mover mover_;
  Planner planner_;
  std::vector<Order> orders_;
  std::vector<BlockRun> runs_;
  Moves moves_;
  std::vector<Move> memory_;
  std::vector<Completion> completions_;
  JobId job_ = 0;
};

// One world at a time, for they are large; null if its bytes are wrong.
World* world_of(Bytes page, Fragmentation fragmentation, bool huge) {
  static std::unique_ptr<World> world;
  static std::tuple<Bytes, Fragmentation, bool> key{0, kRandom, false};
  if (const std::tuple wanted{page, fragmentation, huge}; key != wanted) {
    world.reset();
    world = std::make_unique<World>(page, fragmentation, huge);
    key = wanted;
    if (!world->verified()) world.reset();
  }
  return world.get();
}

template <typename Action>
Seconds timed(const Action& action) {
  const Seconds begin = now();
  action();
  return now() - begin;
}

// Args: page bytes, fragmentation, direction, path (0: planned and copied on the calling thread,
// 1: through the mover), whether the device's memory is in huge pages (the host's is).
void Copy(benchmark::State& state) {
  const auto fragmentation = static_cast<Fragmentation>(state.range(1));
  const auto direction = static_cast<Direction>(state.range(2));
  const bool by_mover = state.range(3) != 0;
  World* found = world_of(state.range(0), fragmentation, state.range(4) != 0);
  if (!found) return state.SkipWithError("the bytes that came back are not those stored");
  World& world = *found;
  Seconds ours = kForever, plain = kForever, peak = kForever;
  int job = 0;
  for (auto _ : state) {
    const Seconds took = by_mover ? world.copy_by_mover(job, direction)
                                  : timed([&] { world.copy_here(job, direction); });
    const Seconds memcpy_took = timed([&] { world.copy_by_memcpy((job + 3) % kJobs, direction); });
    plain = std::min(plain, memcpy_took);
    for (const CpuKernels& kernels : all_cpu_kernels()) {
      peak = std::min(peak, timed([&] { world.copy_contiguous((job + 5) % kJobs, kernels); }));
    }
    ours = std::min(ours, took);
    state.SetIterationTime(took);
    job = (job + 1) % kJobs;
  }
  state.SetBytesProcessed(state.iterations() * kJobBytes);
  state.counters["GB_per_s"] = static_cast<double>(kJobBytes) / 1e9 / ours;
  state.counters["of_peak"] = peak / ours;
  state.counters["times_memcpy"] = plain / ours;
  state.SetLabel(std::string(kFragmentationNames[fragmentation]) + " " + to_string(direction) +
                 (by_mover ? " mover" : " thread") + (state.range(4) ? "" : " small-pages"));
}

void copy_cases(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"page", "frag", "dir", "path", "huge"})
      ->UseManualTime()
      ->Iterations(kIterations)
      ->Unit(benchmark::kMillisecond);
  for (const std::int64_t huge : {1, 0}) {
    for (const std::int64_t page :
         {1 << 10, 4 << 10, 8 << 10, 32 << 10, 128 << 10, 256 << 10, 1 << 20, 4 << 20}) {
      for (const int fragmentation : {kRandom, kRunsOf4, kRunsOf16, kDescending}) {
        if (!huge && fragmentation != kRandom) continue;
        for (const int path : {0, 1}) {
          for (const int direction : {0, 1}) {
            benchmark->Args({page, fragmentation, direction, path, huge});
          }
        }
      }
    }
  }
}
BENCHMARK(Copy)->Apply(copy_cases);

// What the engine's thread pays for a job, whatever its size: validation and a queue push.
void Submit(benchmark::State& state) {
  const auto blocks = static_cast<BlockId>(state.range(0));
  const HostMemory device(Bytes{blocks} * 64);
  Mover mover(Layout({{device.base(), 64, 64}}, blocks), std::make_unique<CpuBackend>(1),
              {.host_rows = blocks}, now);
  Order order{0, Direction::kStore, fragmented(blocks, kRandom), {}, {{{0, blocks}, blocks}}};
  assign_slots(order.blocks, order.slots);
  for (auto _ : state) {
    ++order.job;
    Job job{.order = order};
    state.SetIterationTime(timed([&] { mover.submit(std::move(job)); }));
    mover.wait_idle(60);
  }
}
BENCHMARK(Submit)->ArgName("blocks")->Arg(16)->Arg(256)->Arg(2048)->Arg(16384)->UseManualTime();

// From block lists to descriptors: 40 layers, no two neighbours, so none can be saved. All at once,
// or in slices of 1024 (8 MiB), as the mover makes them.
void Plan(benchmark::State& state) {
  const auto blocks = static_cast<BlockId>(state.range(0));
  const SliceLimit limit{.moves = static_cast<std::size_t>(state.range(1))};
  constexpr Bytes kPage = 8192;
  std::vector<Region> regions;
  for (Address layer = 1; layer <= 40; ++layer) regions.push_back({layer << 40, kPage, kPage});
  const Layout layout(regions, 2 * blocks);
  Planner planner(layout);
  std::vector<BlockId> ids = fragmented(blocks, kRandom), slots;
  for (BlockId& id : ids) id *= 2;
  assign_slots(ids, slots);
  std::vector<BlockRun> runs;
  Moves moves;
  std::vector<Move> memory;
  for (auto _ : state) {
    if (!planner.find_runs(ids, slots, runs)) std::abort();
    moves.reset(layout, Direction::kStore);
    moves.add(runs, 1 << 20, blocks);
    while (!moves.all_taken()) {
      benchmark::DoNotOptimize(moves.take(limit, memory).data());
      benchmark::ClobberMemory();
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(moves.count()));
}
BENCHMARK(Plan)
    ->ArgNames({"blocks", "slice"})
    ->ArgsProduct({{1024, 4096}, {1024, 1 << 20}})
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace lamps::swap
