// SPDX-License-Identifier: Apache-2.0
#include "swap/host_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <string>

#include "swap/errors.h"

namespace lamps::swap {
namespace {

constexpr Bytes kHugePage = 2 << 20;

void touch(void* memory, std::size_t bytes) {
#if defined(MADV_POPULATE_WRITE)
  if (madvise(memory, bytes, MADV_POPULATE_WRITE) == 0) return;
#endif
  std::memset(memory, 0, bytes);  // kernels before 5.14
}

}  // namespace

HostMemory::HostMemory(Bytes bytes) : bytes_(bytes) {
  require_in_range("host memory in bytes", static_cast<double>(bytes), 1,
                   static_cast<double>(std::numeric_limits<Bytes>::max() / 2));
  bytes_ = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  const auto size = static_cast<std::size_t>(bytes_);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw OutOfHostMemory("host memory = " + std::to_string(bytes_) +
                          " bytes: " + std::strerror(errno));
  }
  madvise(memory, size, MADV_HUGEPAGE);  // a wish: refusing it costs speed only
  touch(memory, size);
  base_ = reinterpret_cast<Address>(memory);
}

HostMemory::~HostMemory() {
  munmap(reinterpret_cast<void*>(base_), static_cast<std::size_t>(bytes_));
}

}  // namespace lamps::swap
