// SPDX-License-Identifier: Apache-2.0
// As much of the CUDA runtime as csrc/swap/cuda uses, on threads: a stream is a thread that works
// off its queue with pauses of random length, an event a point in one. Copies and kernels may touch
// nothing but device memory, locked memory and memory that is registered, and none of them across
// an end. It is a device of compute capability 8.0, and tells nothing about speed.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <functional>
#include <string>

namespace cuda_on_cpu {

// The call after `calls` more of `function` ("cudaMemcpyAsync") fails, once.
void fail(const std::string& function, int calls = 0);

// From now on copies between host and device take so long.
void slow_down_copies(std::chrono::milliseconds time);

// Work of the engine's on its own stream.
void enqueue(cudaStream_t stream, std::function<void()> work);

// Whether a copy or a kernel has touched what it may not since this was last asked. Until then,
// as on a device, every query says so.
[[nodiscard]] bool take_fault();

}  // namespace cuda_on_cpu
