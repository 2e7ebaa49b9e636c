// SPDX-License-Identifier: Apache-2.0
#include "swap/cpu_kernels.h"

#include "swap/cpu_kernels_body.h"

namespace lamps::swap {

#if defined(LAMPS_SWAP_X86)  // set where the files below are compiled
void copy_avx2(const Move* moves, std::size_t count);
void copy_avx512(const Move* moves, std::size_t count);
std::uint64_t checksum_avx2(const void* data, std::size_t bytes, std::uint64_t seed);
std::uint64_t checksum_avx512(const void* data, std::size_t bytes, std::uint64_t seed);
#endif

namespace {

// The C library knows best how to copy on a machine we do not.
void copy_portable(const Move* moves, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    std::memcpy(reinterpret_cast<void*>(moves[i].target), bytes_at(moves[i].source),
                moves[i].bytes);
  }
}

constexpr CpuKernels kKernels[] = {
#if defined(LAMPS_SWAP_X86)
    {"avx512", copy_avx512, checksum_avx512},
    {"avx2", copy_avx2, checksum_avx2},
#endif
    {"portable", copy_portable, checksum_of},
};

std::span<const CpuKernels> found() {
  std::span<const CpuKernels> kernels(kKernels);
#if defined(LAMPS_SWAP_X86)
  if (!__builtin_cpu_supports("avx512f")) kernels = kernels.subspan(1);
  if (!__builtin_cpu_supports("avx2")) kernels = kernels.last(1);
#endif
  return kernels;
}

}  // namespace

std::span<const CpuKernels> all_cpu_kernels() {
  static const std::span<const CpuKernels> kernels = found();
  return kernels;
}

const CpuKernels& cpu_kernels() { return all_cpu_kernels().front(); }

std::uint64_t block_checksum(const CpuKernels& kernels, std::span<const Region> regions,
                             BlockId block) {
  std::uint64_t sum = 0;
  for (std::size_t r = 0; r < regions.size(); ++r) {
    const Region& region = regions[r];
    const Address page =
        region.base + static_cast<Address>(block) * static_cast<Address>(region.stride);
    sum += kernels.checksum(bytes_at(page), static_cast<std::size_t>(region.page), r);
  }
  return sum;
}

}  // namespace lamps::swap
