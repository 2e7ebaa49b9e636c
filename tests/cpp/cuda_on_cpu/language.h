// SPDX-License-Identifier: Apache-2.0
// What kernels.cu needs of CUDA C++ where a C++ compiler compiles it. The threads of a launch run
// one after the other, which is all the same to kernels whose threads do not talk to each other.
#pragma once

#include <cuda_runtime_api.h>
#include <vector_types.h>

#include "swap/moves.h"

#undef __device__
#undef __global__
#undef __launch_bounds__
#define __device__
#define __global__
#define __launch_bounds__(threads)

inline thread_local uint3 threadIdx, blockIdx;
inline thread_local dim3 gridDim;

template <typename Word>
Word __ldcs(const Word* from) {
  return *from;
}
template <typename Word>
void __stcs(Word* to, Word value) {
  *to = value;
}

using CopyKernel = void (*)(const lamps::swap::Move* moves, int count);
cudaError_t cudaLaunchKernel(CopyKernel kernel, dim3 grid, dim3 block, void** arguments,
                             std::size_t shared, cudaStream_t stream);
inline cudaError_t cudaFuncSetAttribute(CopyKernel, cudaFuncAttribute, int) { return cudaSuccess; }
