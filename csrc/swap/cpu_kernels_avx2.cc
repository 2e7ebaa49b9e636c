// SPDX-License-Identifier: Apache-2.0
// Compiled for AVX2; called only where the processor has it.
#include <immintrin.h>

#include "swap/cpu_kernels_body.h"

namespace lamps::swap {
namespace {

struct Vector {
  using Value = __m256i;
  static constexpr std::size_t kWidth = 32;
  static Value load(const std::byte* at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  }
  static void stream(std::byte* at, Value value) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(at), value);
  }
  static void fetch(const std::byte* at) { _mm_prefetch(at, _MM_HINT_NTA); }
  static void fence() { _mm_sfence(); }
};

}  // namespace

void copy_avx2(const Move* moves, std::size_t count) { copy_moves<Vector>(moves, count); }

std::uint64_t checksum_avx2(const void* data, std::size_t bytes, std::uint64_t seed) {
  return checksum_of(data, bytes, seed);
}

}  // namespace lamps::swap
