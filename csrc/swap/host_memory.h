// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "swap/layout.h"

namespace lamps::swap {

// Host memory for swapped rows: one mapping, asked for in huge pages (small scattered pages gain
// 20 to 45 % from them) and touched at once, so that no copy pays for page faults. Locking it for
// a device is the backend's work.
class HostMemory {
 public:
  // Throws InvalidOption unless bytes >= 1, OutOfHostMemory if the system will not give it.
  explicit HostMemory(Bytes bytes);
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  [[nodiscard]] Address base() const { return base_; }
  [[nodiscard]] Bytes bytes() const { return bytes_; }

 private:
  Address base_ = 0;
  Bytes bytes_;
};

}  // namespace lamps::swap
