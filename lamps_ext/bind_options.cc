// SPDX-License-Identifier: Apache-2.0
#include <string_view>

#include "lamps/options.h"
#include "module.h"

namespace py = pybind11;

void bind_options(py::module_& m) {
  m.def(
      "policy_names",
      [] {
        py::list names;
        for (const lamps::NamedPolicy& each : lamps::kPolicies) names.append(each.name);
        return names;
      },
      "Names of the policies, the default first.");
  using lamps::CostParameters;
  using lamps::Engine;
  using lamps::Options;
  py::class_<CostParameters>(m, "CostParameters",
                             "What a step costs at start; calibrated online. Seconds, bytes.")
      .def(py::init<>())
      .def_readwrite("base", &CostParameters::base)
      .def_readwrite("per_prefill", &CostParameters::per_prefill)
      .def_readwrite("per_decode", &CostParameters::per_decode)
      .def_readwrite("per_context", &CostParameters::per_context)
      .def_readwrite("swap_bytes_per_s", &CostParameters::swap_bytes_per_s)
      .def_readwrite("kv_bytes_per_token", &CostParameters::kv_bytes_per_token);
  py::class_<Options>(m, "Options", "What an operator may set; ranges in csrc/lamps/options.h.")
      .def(py::init<>())
      .def_property(
          "policy", [](const Options& options) { return lamps::to_string(options.policy); },
          [](Options& options, std::string_view name) {
            options.policy = lamps::policy_named(name);
          },
          "Name of the policy, one of policy_names().")
      .def_readwrite("rank_weight", &Options::rank_weight)
      .def_readwrite("rank_horizon", &Options::rank_horizon)
      .def_readwrite("starvation_threshold", &Options::starvation_threshold)
      .def_readwrite("starvation_seconds", &Options::starvation_seconds)
      .def_readwrite("score_update_interval", &Options::score_update_interval)
      .def_readwrite("admission_share", &Options::admission_share)
      .def_readwrite("min_admission_share", &Options::min_admission_share)
      .def_readwrite("redecide_seconds", &Options::redecide_seconds)
      .def_readwrite("forget_seconds", &Options::forget_seconds)
      .def_readwrite("preserve", &Options::preserve)
      .def_readwrite("victim_hysteresis", &Options::victim_hysteresis)
      .def_readwrite("cost", &Options::cost)
      .def("validate", &Options::validate,
           "Raises InvalidOption naming the first value outside its range.");
  py::class_<Engine>(
      m, "Engine",
      "What the engine is: KV capacity, block size, longest context, tokens per step, host tier.")
      .def(py::init([](lamps::Tokens capacity_tokens, lamps::Tokens block_tokens,
                       lamps::Tokens max_context, lamps::Tokens step_tokens,
                       lamps::Tokens host_tokens) {
             Engine engine{capacity_tokens, block_tokens, max_context, step_tokens, host_tokens};
             engine.validate();
             return engine;
           }),
           py::kw_only(), py::arg("capacity_tokens"), py::arg("block_tokens"),
           py::arg("max_context"), py::arg("step_tokens"), py::arg("host_tokens") = 0)
      .def_readonly("capacity_tokens", &Engine::capacity_tokens)
      .def_readonly("block_tokens", &Engine::block_tokens)
      .def_readonly("max_context", &Engine::max_context)
      .def_readonly("step_tokens", &Engine::step_tokens)
      .def_readonly("host_tokens", &Engine::host_tokens);
}
