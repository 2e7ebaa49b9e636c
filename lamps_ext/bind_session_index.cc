// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <utility>

#include "lamps/session_index.h"
#include "module.h"

namespace py = pybind11;

namespace {

// A prompt as vLLM keeps it: a list of block hashes (bytes) and a list of tokens, or None where it
// has no tokens. Only what is asked for is read.
class ListChain final : public lamps::PromptChain {
 public:
  ListChain(py::list hashes, py::object tokens) : hashes_(std::move(hashes)) {
    if (!tokens.is_none()) tokens_ = tokens.cast<py::list>();
  }
  [[nodiscard]] std::size_t blocks() const override { return hashes_.size(); }
  [[nodiscard]] std::uint64_t hash(std::size_t block) const override {
    const py::handle bytes = PyList_GET_ITEM(hashes_.ptr(), static_cast<py::ssize_t>(block));
    char* data = nullptr;
    py::ssize_t length = 0;
    if (PyBytes_AsStringAndSize(bytes.ptr(), &data, &length) != 0) throw py::error_already_set();
    std::uint64_t value = 0;  // any 8 bytes of a good hash are a good hash
    std::memcpy(&value, data,
                std::min<std::size_t>(sizeof value, static_cast<std::size_t>(length)));
    return value;
  }
  [[nodiscard]] std::size_t tokens() const override { return tokens_.size(); }
  [[nodiscard]] std::int32_t token(std::size_t i) const override {
    return tokens_[i].cast<std::int32_t>();
  }

 private:
  py::list hashes_;
  py::list tokens_;
};

}  // namespace

void bind_session_index(py::module_& m) {
  using lamps::SessionIndex;
  py::class_<SessionIndex> index(m, "SessionIndex",
                                 "Which session a prompt belongs to; see "
                                 "csrc/lamps/session_index.h.");
  index.attr("NEW") = static_cast<int>(SessionIndex::Relation::kNew);
  index.attr("CONTINUES") = static_cast<int>(SessionIndex::Relation::kContinues);
  index.attr("EDITS") = static_cast<int>(SessionIndex::Relation::kEdits);
  index.attr("FORKS") = static_cast<int>(SessionIndex::Relation::kForks);
  index.def(py::init<std::size_t>(), py::arg("block_tokens"))
      .def(
          "find",
          [](const SessionIndex& self, py::list hashes, py::object tokens) {
            const auto found = self.find(ListChain(std::move(hashes), std::move(tokens)));
            return py::make_tuple(static_cast<int>(found.relation), found.session,
                                  found.shared_blocks);
          },
          py::arg("hashes"), py::arg("tokens"),
          "(relation, session or -1, blocks in common) of a prompt, by its blocks' hashes and its "
          "tokens (or None).")
      .def(
          "begin",
          [](SessionIndex& self, lamps::SessionHandle session, py::list hashes, py::object tokens) {
            self.begin(session, ListChain(std::move(hashes), std::move(tokens)));
          },
          py::arg("session"), py::arg("hashes"), py::arg("tokens"),
          "A turn of the session with this prompt has begun.")
      .def(
          "finish",
          [](SessionIndex& self, lamps::SessionHandle session, py::list hashes, bool aborted) {
            self.finish(session, ListChain(std::move(hashes), py::none()), aborted);
          },
          py::arg("session"), py::arg("hashes"), py::arg("aborted"),
          "It has ended; the hashes are of prompt and output.")
      .def("forget", &SessionIndex::forget, py::arg("session"))
      .def_property_readonly("sessions", &SessionIndex::sessions)
      .def_property_readonly("checkpoints", &SessionIndex::checkpoints)
      .def("check_invariants", &SessionIndex::check_invariants);
}
