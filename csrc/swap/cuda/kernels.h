// SPDX-License-Identifier: Apache-2.0
// Kernels that carry out moves between any two places a device can address: its own memory, or
// locked host memory over the link. Only this header knows that they are kernels.
#pragma once

#include <cuda_runtime_api.h>

#include "swap/moves.h"

namespace lamps::swap {

// Cut moves to this before a launch, so that all workers have about the same to do.
inline constexpr std::uint64_t kKernelUnit = 16 << 10;

// Through registers: a warp per move, 16 bytes per lane and eight loads in flight. Any alignment;
// what is not a multiple of 16 is slower. `moves` is device memory. Returns the launch's error.
cudaError_t launch_register_copy(const Move* moves, int count, int ctas, cudaStream_t stream);

// Through shared memory by bulk copies, issued by one thread per CTA: needs few CTAs for a full
// link. sm_90 or later; addresses and sizes multiples of 16, sizes up to kKernelUnit.
cudaError_t launch_bulk_copy(const Move* moves, int count, int ctas, cudaStream_t stream);

}  // namespace lamps::swap
