// SPDX-License-Identifier: Apache-2.0
// Errors of setting up; what happens to a copy is told by its completion instead (mover.h).
#pragma once

#include "lamps/errors.h"

namespace lamps::swap {

// The system does not give or lock as much host memory as was asked for.
struct OutOfHostMemory : Error {
  using Error::Error;
};

// The device refuses its work: none there, no memory left, a driver too old. Says what and why.
struct DeviceError : Error {
  using Error::Error;
};

}  // namespace lamps::swap
