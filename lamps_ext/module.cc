// SPDX-License-Identifier: Apache-2.0
// Table of contents of `lamps_ext._core`.
#include "module.h"

namespace py = pybind11;

PYBIND11_MODULE(_core, m) {
  m.doc() = "LAMPS policy core: who goes next, whose KV stays, who may come in.";
  bind_errors(m);
  bind_options(m);
  bind_ready_queue(m);
  bind_policy(m);
  bind_sim(m);
  bind_predictor(m);
  bind_session_index(m);
  bind_swap(m);
  m.def(
      "build_info",
      [] {
        py::dict info;
        info["version"] = LAMPS_VERSION;
        info["build_type"] = LAMPS_BUILD_TYPE;
        info["cuda"] = LAMPS_CUDA_VERSION;
        return info;
      },
      "How this module was built: version, build_type, cuda (nvcc's version, or empty).");
}
