// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include <tuple>

#include "lamps/ready_queue.h"
#include "module.h"

namespace py = pybind11;

void bind_ready_queue(py::module_& m) {
  using lamps::ReadyKey;
  using lamps::ReadyQueue;
  using lamps::RequestHandle;
  using Key = std::tuple<std::uint8_t, double, std::uint64_t>;
  const auto to_key = [](const Key& key) {
    return ReadyKey{std::get<0>(key), std::get<1>(key), std::get<2>(key)};
  };
  py::class_<ReadyQueue>(
      m, "ReadyQueue",
      "Indexed heap of waiting requests; keys are (service_class, deadline, sequence), "
      "lowest first.")
      .def(py::init<>())
      .def(
          "push", [to_key](ReadyQueue& q, RequestHandle h, const Key& k) { q.push(h, to_key(k)); },
          py::arg("handle"), py::arg("key"))
      .def(
          "rekey",
          [to_key](ReadyQueue& q, RequestHandle h, const Key& k) { q.rekey(h, to_key(k)); },
          py::arg("handle"), py::arg("key"))
      .def("remove", &ReadyQueue::remove, py::arg("handle"))
      .def("top", &ReadyQueue::top, "The first handle, -1 when empty.")
      .def("pop", &ReadyQueue::pop, "Takes the first handle out, -1 when empty.")
      .def("first", &ReadyQueue::first, py::arg("limit"), "The first `limit` handles in order.")
      .def("check_invariants", &ReadyQueue::check_invariants)
      .def("__contains__", &ReadyQueue::contains, py::arg("handle"))
      .def("__len__", &ReadyQueue::size);
}
