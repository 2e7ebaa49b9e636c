// SPDX-License-Identifier: Apache-2.0
// The parts of the module `lamps_ext._core`, each registered by its own file.
#pragma once

#include <pybind11/pybind11.h>

void bind_errors(pybind11::module_& m);
void bind_options(pybind11::module_& m);
void bind_ready_queue(pybind11::module_& m);
void bind_policy(pybind11::module_& m);
