// SPDX-License-Identifier: Apache-2.0
// The kernels as C++: the one through registers as it is, the bulk one empty (see there).
#include "language.h"
// What the above is for, so in this order.
#include "swap/cuda/kernels.cu"
