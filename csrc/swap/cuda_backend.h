// SPDX-License-Identifier: Apache-2.0
// Always there; a build without nvcc, or a machine without a device, says so when asked for one.
#pragma once

#include <memory>
#include <string>

#include "swap/backend.h"

namespace lamps::swap {

struct CudaOptions {
  int device = 0;
  // Device memory for one slice of a staged copy; four are allocated. Also the size of a slice, so
  // what an urgent load may have to wait for: 16 MiB are 0.3 ms on a PCIe 5 link.
  Bytes staging_bytes = 16 << 20;
  int link_ctas = 8;     // of kernels that go over the link: enough to fill it, few for the engine
  int gather_ctas = 32;  // of kernels between pages and staging: they are over in microseconds
};

// Throws DeviceError if there is no such device or no CUDA in this build, InvalidOption for
// staging_bytes outside [64 KiB, 1 GiB] or a number of CTAs outside [1, 1024].
[[nodiscard]] std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options);

// The device, its driver and where it is plugged in, for keeping what was measured on it. Throws
// DeviceError if there is no such device.
[[nodiscard]] std::string cuda_device_name(int device);

// Empty if a CUDA device can be used here, else the reason why not.
[[nodiscard]] std::string why_no_cuda();

}  // namespace lamps::swap
