// SPDX-License-Identifier: Apache-2.0
// Built in place of cuda/ where there is no nvcc.
#include "swap/cuda_backend.h"
#include "swap/errors.h"

namespace lamps::swap {

std::string why_no_cuda() { return "this build is without CUDA: no nvcc was found for it"; }

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions&) {
  throw DeviceError("CUDA backend: " + why_no_cuda());
}

std::string cuda_device_name(int) { throw DeviceError("CUDA device: " + why_no_cuda()); }

}  // namespace lamps::swap
