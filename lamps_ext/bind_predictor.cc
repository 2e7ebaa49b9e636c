// SPDX-License-Identifier: Apache-2.0
// The predictor by itself, for scoring it on recorded calls. A policy core has its own.
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "lamps/predictor.h"
#include "module.h"

namespace py = pybind11;

void bind_predictor(py::module_& m) {
  using lamps::CallKind;
  using lamps::Predictor;
  using lamps::TurnFacts;
  py::enum_<CallKind>(m, "CallKind", "What a session waits for between two turns.")
      .value("UNKNOWN", CallKind::kUnknown)
      .value("TOOL", CallKind::kTool)
      .value("MESSAGE", CallKind::kMessage);
  py::class_<TurnFacts>(m, "TurnFacts", "What is known of a turn and of the call after it.")
      .def(py::init([](int turn, double last_call, lamps::ToolId tool, CallKind kind,
                       lamps::ClassId prompt, lamps::Tokens cap_tokens) {
             TurnFacts facts;
             facts.turn = turn;
             facts.last_call = last_call;
             facts.tool = tool;
             facts.kind = kind;
             facts.prompt = prompt;
             facts.cap_tokens = cap_tokens;
             return facts;
           }),
           py::kw_only(), py::arg("turn") = 0, py::arg("last_call") = -1.0,
           py::arg("tool") = lamps::kNoTool,
           py::arg_v("kind", CallKind::kUnknown, "CallKind.UNKNOWN"),
           py::arg("prompt") = lamps::kNoClass, py::arg("cap_tokens") = 0);
  py::class_<Predictor>(m, "Predictor",
                        "What is expected of turns and calls; see csrc/lamps/predictor.h.")
      .def(py::init<>())
      .def("tool_id", py::overload_cast<std::string_view>(&Predictor::tool_id), py::arg("name"))
      .def("observe_output", &Predictor::observe_output, py::arg("facts"), py::arg("tokens"))
      .def("observe_call", &Predictor::observe_call, py::arg("facts"), py::arg("duration"))
      .def("observe_no_return", &Predictor::observe_no_return, py::arg("facts"))
      .def("observe_silence", &Predictor::observe_silence, py::arg("facts"), py::arg("elapsed"),
           py::arg("counted"))
      .def("remaining_output", &Predictor::remaining_output, py::arg("facts"), py::arg("produced"))
      .def("remaining_call", &Predictor::remaining_call, py::arg("facts"), py::arg("elapsed"))
      .def("call_quantile", &Predictor::call_quantile, py::arg("facts"), py::arg("elapsed"),
           py::arg("p"))
      .def("p_return", &Predictor::p_return, py::arg("facts"), py::arg("elapsed"))
      .def("still_out", &Predictor::still_out, py::arg("facts"), py::arg("elapsed"),
           py::arg("later"))
      .def("patience", &Predictor::patience);
}
