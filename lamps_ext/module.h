// SPDX-License-Identifier: Apache-2.0
// The parts of the module `lamps_ext._core`, each registered by its own file.
#pragma once

#include <pybind11/pybind11.h>

namespace lamps {
class PolicyCore;
}

// Counters, sums and the calibrated cost model of a core, as PolicyCore.report() gives them.
pybind11::dict policy_report(const lamps::PolicyCore& core);

void bind_errors(pybind11::module_& m);
void bind_options(pybind11::module_& m);
void bind_ready_queue(pybind11::module_& m);
void bind_policy(pybind11::module_& m);
void bind_sim(pybind11::module_& m);
void bind_predictor(pybind11::module_& m);
void bind_session_index(pybind11::module_& m);
void bind_swap(pybind11::module_& m);
