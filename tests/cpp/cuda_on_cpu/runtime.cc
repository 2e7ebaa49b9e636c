// SPDX-License-Identifier: Apache-2.0
#include "runtime.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "language.h"

namespace {

using Point = std::shared_future<void>;  // in the order of a stream's work

struct State {
  std::mutex mutex;
  std::map<std::uintptr_t, std::size_t> memory;  // what devices may touch: from, bytes
  std::map<std::string, int> failing;            // function: calls until then
  std::atomic<std::int64_t> copy_milliseconds = 0;
  std::atomic<bool> faulted = false;
};

State& state() {
  static State made;
  return made;
}

// Whether this call of `function` is one that fails.
bool fails(const char* function) {
  const std::lock_guard lock(state().mutex);
  const auto found = state().failing.find(function);
  if (found == state().failing.end() || found->second-- > 0) return false;
  state().failing.erase(found);
  return true;
}

cudaError_t add_memory(void* from, std::size_t bytes) {
  const std::lock_guard lock(state().mutex);
  const bool added = state().memory.emplace(reinterpret_cast<std::uintptr_t>(from), bytes).second;
  return added ? cudaSuccess : cudaErrorHostMemoryAlreadyRegistered;
}

cudaError_t take_memory(void* from) {
  const std::lock_guard lock(state().mutex);
  const bool taken = state().memory.erase(reinterpret_cast<std::uintptr_t>(from)) > 0;
  return taken ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t allocate(void** memory, std::size_t bytes) {
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(*memory, 0xdb, bytes);  // never what anybody expects
  return add_memory(*memory, bytes);
}

bool touchable(const void* from, std::size_t bytes) {
  const auto at = reinterpret_cast<std::uintptr_t>(from);
  const std::lock_guard lock(state().mutex);
  auto next = state().memory.upper_bound(at);
  if (next == state().memory.begin()) return false;
  --next;
  return at + bytes <= next->first + next->second;
}

}  // namespace

struct CUevent_st {
  std::mutex mutex;
  Point last;  // recorded, if valid

  [[nodiscard]] Point point() {
    const std::lock_guard lock(mutex);
    return last;
  }
};

struct CUstream_st {
  CUstream_st() : thread_([this] { work(); }) {}
  ~CUstream_st() {
    enqueue(nullptr);
    thread_.join();
  }

  void enqueue(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }
  [[nodiscard]] bool idle() {
    const std::lock_guard lock(mutex_);
    return tasks_.empty();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return tasks_.empty(); });
  }

 private:
  void work() {
    std::minstd_rand random(1);
    while (true) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return !tasks_.empty(); });
        task = tasks_.front();
      }
      if (!task) return;
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 60));
      task();
      const std::lock_guard lock(mutex_);
      tasks_.pop_front();  // only now: who asks whether it is idle means done
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::thread thread_;
};

namespace {

CUstream_st& stream_of(cudaStream_t stream) {
  static CUstream_st standard;
  return stream == nullptr ? standard : *stream;
}

void copy(void* to, const void* from, std::size_t bytes) {
  std::this_thread::sleep_for(std::chrono::milliseconds(state().copy_milliseconds));
  if (touchable(to, bytes) && touchable(from, bytes)) {
    std::memcpy(to, from, bytes);
  } else {
    state().faulted = true;
  }
}

void run(CopyKernel kernel, dim3 grid, dim3 block, const lamps::swap::Move* moves, int count) {
  bool touching = touchable(moves, static_cast<std::size_t>(count) * sizeof(*moves));
  for (int i = 0; touching && i < count; ++i) {
    touching = touchable(reinterpret_cast<void*>(moves[i].source), moves[i].bytes) &&
               touchable(reinterpret_cast<void*>(moves[i].target), moves[i].bytes);
  }
  if (!touching) {
    state().faulted = true;
    return;
  }
  gridDim = grid;
  for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
    for (threadIdx.x = 0; threadIdx.x < block.x; ++threadIdx.x) kernel(moves, count);
  }
}

cudaError_t outcome() { return state().faulted ? cudaErrorIllegalAddress : cudaSuccess; }

}  // namespace

namespace cuda_on_cpu {

void fail(const std::string& function, int calls) {
  const std::lock_guard lock(state().mutex);
  state().failing[function] = calls;
}
void slow_down_copies(std::chrono::milliseconds time) { state().copy_milliseconds = time.count(); }
void enqueue(cudaStream_t stream, std::function<void()> work) {
  stream_of(stream).enqueue(std::move(work));
}
bool take_fault() { return state().faulted.exchange(false); }

}  // namespace cuda_on_cpu

cudaError_t cudaLaunchKernel(CopyKernel kernel, dim3 grid, dim3 block, void** arguments,
                             std::size_t /*shared*/, cudaStream_t stream) {
  if (fails("cudaLaunchKernel")) return cudaErrorLaunchOutOfResources;
  const auto* moves = *static_cast<const lamps::swap::Move**>(arguments[0]);
  const int count = *static_cast<int*>(arguments[1]);
  stream_of(stream).enqueue([=] { run(kernel, grid, block, moves, count); });
  return cudaSuccess;
}

extern "C" {

// ---------------------------------------------------------------- memory

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  return fails("cudaMalloc") ? cudaErrorMemoryAllocation : allocate(memory, bytes);
}
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) { return allocate(memory, bytes); }
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  const cudaError_t status = take_memory(memory);
  if (status == cudaSuccess) std::free(memory);
  return status;
}
cudaError_t cudaFreeHost(void* memory) { return cudaFree(memory); }
cudaError_t cudaHostRegister(void* memory, std::size_t bytes, unsigned) {
  return fails("cudaHostRegister") ? cudaErrorMemoryAllocation : add_memory(memory, bytes);
}
cudaError_t cudaHostUnregister(void* memory) { return take_memory(memory); }

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  if (fails("cudaMemcpyAsync")) return cudaErrorInvalidValue;
  stream_of(stream).enqueue([=] { copy(to, from, bytes); });
  return cudaSuccess;
}
#if CUDART_VERSION >= 13000
cudaError_t cudaMemcpyBatchAsync(void* const* to, const void* const* from, const std::size_t* bytes,
                                 std::size_t count, cudaMemcpyAttributes*, std::size_t*,
                                 std::size_t, cudaStream_t stream) {
#elif CUDART_VERSION >= 12080
cudaError_t cudaMemcpyBatchAsync(void** to, void** from, std::size_t* bytes, std::size_t count,
                                 cudaMemcpyAttributes*, std::size_t*, std::size_t, std::size_t*,
                                 cudaStream_t stream) {
#endif
#if CUDART_VERSION >= 12080
  if (fails("cudaMemcpyBatchAsync")) return cudaErrorInvalidValue;
  for (std::size_t i = 0; i < count; ++i) {
    stream_of(stream).enqueue([t = to[i], f = from[i], b = bytes[i]] { copy(t, f, b); });
  }
  return cudaSuccess;
}
#endif

// ---------------------------------------------------------------- streams and events

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return stream_of(stream).idle() ? outcome() : cudaErrorNotReady;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  stream_of(stream).wait();
  return outcome();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Point point = event->point();
  if (point.valid()) stream_of(stream).enqueue([point] { point.wait(); });
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (fails("cudaEventRecord")) return cudaErrorInvalidValue;
  const auto reached = std::make_shared<std::promise<void>>();
  {
    const std::lock_guard lock(event->mutex);
    event->last = reached->get_future().share();
  }
  stream_of(stream).enqueue([reached] { reached->set_value(); });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Point point = event->point();
  const bool waits =
      point.valid() && point.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
  return waits ? cudaErrorNotReady : outcome();
}

// ---------------------------------------------------------------- the device

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int) {
  *value = name == cudaDevAttrComputeCapabilityMajor ? 8 : 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::memset(properties, 0, sizeof(*properties));
  std::strcpy(properties->name, "threads");
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "out of memory" : "as the test wishes";
}

}  // extern "C"
