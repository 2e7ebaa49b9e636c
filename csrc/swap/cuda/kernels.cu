// SPDX-License-Identifier: Apache-2.0
#include "swap/cuda/kernels.h"

namespace lamps::swap {
namespace {

constexpr int kWarp = 32;
constexpr int kThreads = 512;
constexpr int kUnroll = 8;

// A link answers after a microsecond or two, so what counts is bytes in flight: 32 lanes x 16
// bytes x 8 loads = 4 KiB per warp, 64 KiB per CTA.
template <typename Word>
__device__ void copy_words(const Move& move, int lane) {
  const auto* source = reinterpret_cast<const Word*>(move.source);
  auto* target = reinterpret_cast<Word*>(move.target);
  const std::uint64_t words = move.bytes / sizeof(Word);
  std::uint64_t at = lane;
  for (; at + (kUnroll - 1) * kWarp < words; at += kUnroll * kWarp) {
    Word value[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) value[i] = __ldcs(source + at + i * kWarp);
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) __stcs(target + at + i * kWarp, value[i]);
  }
  for (; at < words; at += kWarp) __stcs(target + at, __ldcs(source + at));
}

__global__ __launch_bounds__(kThreads) void copy_by_registers(const Move* moves, int count) {
  const int lane = threadIdx.x % kWarp;
  const int warps = static_cast<int>(gridDim.x) * (kThreads / kWarp);
  const int first = static_cast<int>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  for (int i = first; i < count; i += warps) {
    const Move move = moves[i];
    const std::uint64_t bits = move.source | move.target | move.bytes;
    if (bits % 16 == 0) {
      copy_words<int4>(move, lane);
    } else if (bits % 4 == 0) {
      copy_words<int>(move, lane);
    } else {
      copy_words<char>(move, lane);
    }
  }
}

// A ring of shared memory: loads run kAhead units before the stores. Five loads and one store in
// flight are 96 KiB per CTA; with descriptors and barriers it is 97.6, and sm_120 has 99.
constexpr int kStages = 6;
[[maybe_unused]] constexpr int kAhead = kStages - 2;
constexpr int kRingBytes = kStages * static_cast<int>(kKernelUnit);

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

__device__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

__device__ void init_barrier(unsigned barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
}

__device__ void load_unit(unsigned slot, unsigned barrier, const Move& move) {
  const auto bytes = static_cast<unsigned>(move.bytes);
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(slot),
      "l"(move.source), "r"(bytes), "r"(barrier)
      : "memory");
}

__device__ void wait_loaded(unsigned barrier, unsigned parity) {
  asm volatile(
      "{\n"
      ".reg .pred arrived;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 arrived, [%0], %1;\n"
      "@!arrived bra again;\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

__device__ void store_unit(unsigned slot, const Move& move) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(move.target),
               "r"(slot), "r"(static_cast<unsigned>(move.bytes))
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// One thread issues everything; the others of its warp fetch descriptors ahead of it, so that it
// does not wait for device memory before every unit.
__global__ __launch_bounds__(kWarp) void copy_by_bulk(const Move* moves, int count) {
  extern __shared__ __align__(128) char ring[];
  __shared__ __align__(8) std::uint64_t barriers[kStages];
  __shared__ Move units[2 * kWarp];  // those of this round and, still to be stored, of the last
  const int lane = static_cast<int>(threadIdx.x);
  const int ctas = static_cast<int>(gridDim.x);
  const int mine = (count - static_cast<int>(blockIdx.x) + ctas - 1) / ctas;
  if (lane < kStages) init_barrier(shared_address(&barriers[lane]));
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  for (int round = 0; round < mine + kAhead; round += kWarp) {
    if (const int unit = round + lane; unit < mine) {
      units[unit % (2 * kWarp)] = moves[static_cast<int>(blockIdx.x) + unit * ctas];
    }
    __syncwarp();
    for (int turn = round; lane == 0 && turn < min(round + kWarp, mine + kAhead); ++turn) {
      const int unit = turn - kAhead;  // to be stored; `turn` itself is the one to be loaded
      if (turn < mine) {
        if (turn >= kStages) {  // the slot's last store, the second to last one, has been read
          asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kStages - 1 - kAhead) : "memory");
        }
        load_unit(shared_address(ring + turn % kStages * kKernelUnit),
                  shared_address(&barriers[turn % kStages]), units[turn % (2 * kWarp)]);
      }
      if (unit >= 0) {
        wait_loaded(shared_address(&barriers[unit % kStages]),
                    static_cast<unsigned>(unit / kStages % 2));
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        store_unit(shared_address(ring + unit % kStages * kKernelUnit), units[unit % (2 * kWarp)]);
      }
    }
    __syncwarp();
  }
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

#else  // never launched there: CudaBackend::usable()

__global__ void copy_by_bulk(const Move*, int) {}

#endif

}  // namespace

// Launched by the call that returns its own error: the last error of the thread may be an earlier
// "not ready", which is none.
cudaError_t launch_register_copy(const Move* moves, int count, int ctas, cudaStream_t stream) {
  void* arguments[] = {&moves, &count};
  return cudaLaunchKernel(copy_by_registers, ctas, kThreads, arguments, 0, stream);
}

cudaError_t launch_bulk_copy(const Move* moves, int count, int ctas, cudaStream_t stream) {
  const cudaError_t allowed =
      cudaFuncSetAttribute(copy_by_bulk, cudaFuncAttributeMaxDynamicSharedMemorySize, kRingBytes);
  if (allowed != cudaSuccess) return allowed;
  void* arguments[] = {&moves, &count};
  return cudaLaunchKernel(copy_by_bulk, ctas, kWarp, arguments, kRingBytes, stream);
}

}  // namespace lamps::swap
