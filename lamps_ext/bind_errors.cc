// SPDX-License-Identifier: Apache-2.0
// One Python exception per C++ error, by the same name.
#include "lamps/errors.h"
#include "module.h"

namespace py = pybind11;

void bind_errors(py::module_& m) {
  const auto base = py::register_exception<lamps::Error>(m, "LampsError", PyExc_RuntimeError);
  py::register_exception<lamps::InvalidOption>(m, "InvalidOption", base);
  py::register_exception<lamps::UnknownHandle>(m, "UnknownHandle", base);
  py::register_exception<lamps::BadSnapshot>(m, "BadSnapshot", base);
  py::register_exception<lamps::InvariantViolation>(m, "InvariantViolation", base);
}
