// SPDX-License-Identifier: Apache-2.0
// What decoding does to a GPU's memory: all of it is read (and, here, written) in every step.
#include <cstddef>

namespace lamps::swap {

__global__ void touch_all(int4* words, std::size_t count) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
    int4 word = words[i];
    word.x ^= 1;
    words[i] = word;
  }
}

void launch_memory_bound(void* memory, std::size_t bytes, cudaStream_t stream) {
  touch_all<<<1024, 512, 0, stream>>>(static_cast<int4*>(memory), bytes / sizeof(int4));
}

}  // namespace lamps::swap
