// SPDX-License-Identifier: Apache-2.0
// Copying and checking bytes on the CPU, in the widest instructions the machine has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "swap/moves.h"

namespace lamps::swap {

struct CpuKernels {
  const char* name;  // "avx512", "avx2", "portable"
  // Copies every move, in order, and returns when the bytes are visible to other threads. Stores
  // bypass the caches, for swapped pages are not read again soon, and each source is fetched ahead
  // across the borders of moves, so scattered small pages do not wait for memory. Sources and
  // targets may not overlap.
  void (*copy)(const Move* moves, std::size_t count);
  // Of `bytes` bytes: 64 bits that change with any single word, with the order of words and with
  // `seed`. For detecting faults, not attacks. Equal for all kernels of one byte order.
  std::uint64_t (*checksum)(const void* data, std::size_t bytes, std::uint64_t seed);
};

// The best this machine can run, found once.
[[nodiscard]] const CpuKernels& cpu_kernels();
// All it can run, best first; the last is portable.
[[nodiscard]] std::span<const CpuKernels> all_cpu_kernels();

// The checksum of a block: of all its pages, each seeded with its region, added up, so that pages
// may be read in any order and by several threads.
[[nodiscard]] std::uint64_t block_checksum(const CpuKernels& kernels,
                                           std::span<const Region> regions, BlockId block);

}  // namespace lamps::swap
