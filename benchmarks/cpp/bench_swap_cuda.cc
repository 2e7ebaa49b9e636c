// SPDX-License-Identifier: Apache-2.0
// The CUDA mover: page size x path x direction, random pages of a layer-first cache. In every
// iteration the pinned contiguous copy of as many bytes is timed too:
//   of_peak    our rate / that copy's rate; time is from submit() to the last byte
//   slowdown   (Beside) of a memory-bound kernel on the engine's stream while we copy all the time
// "direct" is one cudaMemcpyAsync per page, "batch" cudaMemcpyBatchAsync: what else one would do.
// Without a device it says why there is none, and that is all.
#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>
#include <string>

#include "swap/calibrate.h"
#include "swap/cuda/handles.h"
#include "swap/cuda_backend.h"
#include "swap/mover.h"
#include "swap_orders.h"

namespace lamps::swap {

// bench_swap_cuda_load.cu: reads and writes `bytes` of device memory once, as decoding does.
void launch_memory_bound(void* memory, std::size_t bytes, cudaStream_t stream);

namespace {

constexpr Bytes kDeviceBytes = Bytes{1} << 30;
constexpr Bytes kJobBytes = Bytes{256} << 20;
constexpr int kJobs = static_cast<int>(kDeviceBytes / kJobBytes);
constexpr int kAuto = kPaths;  // the path that calibration chooses
constexpr int kIterations = 30;

Seconds now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Thresholds under which every job takes `path`.
Calibration only(Path path) {
  constexpr Bytes kNever = Bytes{1} << 50;
  Calibration out;
  out.direct_moves = 0;
  out.direct_min = path == Path::kDirect ? 1 : kNever;
  out.store_batch_min = out.load_batch_min = path == Path::kBatch ? 1 : kNever;
  out.small_store = out.small_load = path;
  return out;
}

const Calibration& measured_here(void* scratch) {
  static const Calibration calibration = [&] {
    const HostMemory host(16 << 20);
    const std::unique_ptr<Backend> backend = make_cuda_backend({});
    backend->attach(host.base(), host.bytes());
    return calibrate(*backend, {reinterpret_cast<Address>(scratch), host.base(), 16 << 20}, now)
        .calibration;
  }();
  return calibration;
}

class World {
 public:
  World(Bytes page, int path)
      : memory_(new_device_memory(kDeviceBytes)), stream_(new_stream(false)) {
    const auto base = reinterpret_cast<Address>(memory_.get());
    const auto blocks = static_cast<BlockId>(kDeviceBytes / page);
    const Calibration calibration =
        path == kAuto ? measured_here(memory_.get()) : only(static_cast<Path>(path));
    mover_ = std::make_unique<Mover>(Layout({{base, page, page}}, blocks), make_cuda_backend({}),
                                     MoverOptions{blocks, false, calibration}, now);
    std::vector<BlockId> all(static_cast<std::size_t>(blocks));
    std::iota(all.begin(), all.end(), 0);
    std::shuffle(all.begin(), all.end(), std::mt19937(1));
    orders_ = orders_over(all, kJobs);
  }

  void submit(int job, Direction direction) {
    Order order = orders_[static_cast<std::size_t>(job)];
    order.job = ++job_;
    order.direction = direction;
    mover_->submit({.order = std::move(order)});
  }
  // From submit() to the last byte of the last job.
  Seconds finish() {
    mover_->wait_idle(60);
    completions_.clear();
    mover_->poll(completions_);
    Seconds begin = kForever, end = 0;
    for (const Completion& completion : completions_) {
      begin = std::min(begin, completion.queued);
      end = std::max(end, completion.ended);
      failed_ |= completion.outcome != Outcome::kDone;
      path_ = completion.path;
    }
    return end - begin;
  }
  // The pinned contiguous copy of a job's bytes.
  Seconds peak(Direction direction) {
    auto* host = reinterpret_cast<void*>(mover_->host().base());
    const bool store = direction == Direction::kStore;
    const Seconds begin = now();
    require(cudaMemcpyAsync(store ? host : memory_.get(), store ? memory_.get() : host, kJobBytes,
                            cudaMemcpyDefault, stream_.get()),
            "cudaMemcpyAsync");
    require(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
    return now() - begin;
  }
  // Seconds per launch of the memory-bound kernel.
  Seconds engine_step(int launches) {
    const Seconds begin = now();
    for (int i = 0; i < launches; ++i) {
      launch_memory_bound(memory_.get(), kDeviceBytes, stream_.get());
    }
    require(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
    return (now() - begin) / launches;
  }
  // Stores all, overwrites the device, loads all: every byte is where it was.
  [[nodiscard]] bool verified() {
    std::vector<std::uint32_t> words(static_cast<std::size_t>(kDeviceBytes) / 4), found(words);
    for (std::size_t i = 0; i < words.size(); ++i) {
      words[i] = static_cast<std::uint32_t>(i * 2654435761U);
    }
    require(cudaMemcpy(memory_.get(), words.data(), kDeviceBytes, cudaMemcpyDefault), "cudaMemcpy");
    for (const Direction direction : {Direction::kStore, Direction::kLoad}) {
      for (int job = 0; job < kJobs; ++job) submit(job, direction);
      finish();
      if (direction == Direction::kStore) {
        require(cudaMemset(memory_.get(), 0xee, kDeviceBytes), "cudaMemset");
        require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
      }
    }
    require(cudaMemcpy(found.data(), memory_.get(), kDeviceBytes, cudaMemcpyDefault), "cudaMemcpy");
    return words == found && !failed_;
  }
  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] Path path() const { return path_; }

 private:
  DeviceMemory memory_;
  Stream stream_;
  std::unique_ptr<Mover> mover_;
  std::vector<Order> orders_;
  std::vector<Completion> completions_;
  JobId job_ = 0;
  bool failed_ = false;
  Path path_ = Path::kDirect;
};

// One world at a time; null, and the case skipped, if its bytes are wrong.
World* world_of(benchmark::State& state) {
  static std::unique_ptr<World> world;
  static std::pair<Bytes, int> key{0, 0};
  if (const std::pair wanted{Bytes{state.range(0)}, static_cast<int>(state.range(1))};
      key != wanted) {
    world.reset();
    world = std::make_unique<World>(wanted.first, wanted.second);
    key = wanted;
    if (!world->verified()) world.reset();
  }
  if (!world) state.SkipWithError("the bytes that came back are not those stored");
  return world.get();
}

void Copy(benchmark::State& state) {
  World* world = world_of(state);
  if (world == nullptr) return;
  const auto direction = static_cast<Direction>(state.range(2));
  Seconds ours = 0, peak = 0;
  int job = 0;
  for (auto _ : state) {
    world->submit(job, direction);
    const Seconds took = world->finish();
    peak += world->peak(direction);
    ours += took;
    state.SetIterationTime(took);
    job = (job + 1) % kJobs;
  }
  if (world->failed()) return state.SkipWithError("a copy failed");
  state.SetBytesProcessed(state.iterations() * kJobBytes);
  state.counters["of_peak"] = peak / ours;
  state.SetLabel(std::string(to_string(direction)) + " " + to_string(world->path()));
}

// Both directions at once, in different blocks: the sum of both rates.
void Both(benchmark::State& state) {
  World* world = world_of(state);
  if (world == nullptr) return;
  for (auto _ : state) {
    world->submit(0, Direction::kStore);
    world->submit(1, Direction::kLoad);
    state.SetIterationTime(world->finish());
  }
  state.SetBytesProcessed(state.iterations() * 2 * kJobBytes);
}

void Beside(benchmark::State& state) {
  World* world = world_of(state);
  if (world == nullptr) return;
  const auto direction = static_cast<Direction>(state.range(2));
  Seconds alone = 0, beside = 0;
  for (auto _ : state) {
    const Seconds quiet = world->engine_step(20);
    // The copies outlast the steps: a gigabyte over the link, ten over the device's memory.
    for (int i = 0; i < kJobs; ++i) world->submit(i, direction);
    const Seconds busy = world->engine_step(10);
    world->finish();
    alone += quiet;
    beside += busy;
    state.SetIterationTime(busy);
  }
  state.counters["slowdown"] = beside / alone - 1;
  state.SetLabel(std::string(to_string(direction)) + " " + to_string(world->path()));
}

void every_path(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"page", "path", "dir"})->UseManualTime()->Iterations(kIterations);
  for (const std::int64_t page : {4 << 10, 8 << 10, 32 << 10, 128 << 10, 512 << 10, 2 << 20}) {
    for (int path = 0; path <= kAuto; ++path) {
      for (const int direction : {0, 1}) benchmark->Args({page, path, direction});
    }
  }
}
void some_paths(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"page", "path", "dir"})->UseManualTime()->Iterations(kIterations);
  for (const std::int64_t page : {8 << 10, 2 << 20}) {
    for (const int direction : {0, 1}) benchmark->Args({page, kAuto, direction});
  }
}
// One line where there is no device, instead of one per case.
void NoDevice(benchmark::State& state) {
  for (auto _ : state) state.SkipWithError(why_no_cuda().c_str());
}

[[maybe_unused]] const bool kRegistered = [] {
  if (!why_no_cuda().empty()) {
    benchmark::RegisterBenchmark("NoDevice", NoDevice)->Iterations(1);
    return false;
  }
  every_path(benchmark::RegisterBenchmark("Copy", Copy)->Unit(benchmark::kMillisecond));
  some_paths(benchmark::RegisterBenchmark("Both", Both)->Unit(benchmark::kMillisecond));
  some_paths(benchmark::RegisterBenchmark("Beside", Beside)->Unit(benchmark::kMillisecond));
  return true;
}();

}  // namespace
}  // namespace lamps::swap
