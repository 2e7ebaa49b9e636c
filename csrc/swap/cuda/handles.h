// SPDX-License-Identifier: Apache-2.0
// CUDA objects that free themselves, and errors that say what was attempted.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <utility>

#include "swap/errors.h"
#include "swap/planner.h"

namespace lamps::swap {

inline void require(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw DeviceError(std::string(what) + ": " + cudaGetErrorString(status));
}

// Makes a device current on this thread, and gives the caller's back afterwards.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    require(cudaGetDevice(&before_), "cudaGetDevice");
    require(cudaSetDevice(device), "cudaSetDevice");
  }
  ~OnDevice() { cudaSetDevice(before_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

// Sole owner of a handle. `Free` returns it to CUDA.
template <typename Handle, auto Free>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_ != Handle{}) Free(handle_);
  }
  [[nodiscard]] Handle get() const { return handle_; }

 private:
  Handle handle_{};
};

using Event = Owned<cudaEvent_t, cudaEventDestroy>;
using Stream = Owned<cudaStream_t, cudaStreamDestroy>;
using DeviceMemory = Owned<void*, cudaFree>;
using LockedMemory = Owned<void*, cudaFreeHost>;

inline Event new_event() {
  cudaEvent_t event = nullptr;
  require(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  return Event(event);
}

// Urgent streams are scheduled before the engine's, others after it.
inline Stream new_stream(bool urgent) {
  int least = 0, greatest = 0;
  require(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  cudaStream_t stream = nullptr;
  require(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, urgent ? greatest : least),
          "cudaStreamCreate");
  return Stream(stream);
}

inline DeviceMemory new_device_memory(Bytes bytes) {
  void* memory = nullptr;
  require(cudaMalloc(&memory, static_cast<std::size_t>(bytes)), "cudaMalloc");
  return DeviceMemory(memory);
}

inline LockedMemory new_locked_memory(Bytes bytes) {
  void* memory = nullptr;
  require(cudaMallocHost(&memory, static_cast<std::size_t>(bytes)), "cudaMallocHost");
  return LockedMemory(memory);
}

}  // namespace lamps::swap
