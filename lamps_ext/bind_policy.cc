// SPDX-License-Identifier: Apache-2.0
// PolicyCore for Python. Events of a step travel as one list of tuples, the step itself as two
// integer lists: the boundary is crossed once per step, however many requests there are.
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "lamps/errors.h"
#include "lamps/policy.h"
#include "lamps/snapshot.h"
#include "module.h"

namespace py = pybind11;

namespace {

using lamps::PolicyCore;

// First element of an event tuple; the fields that follow are listed beside each case below.
enum Event : int {
  kArrive = 0,
  kAdmitted,
  kPreempted,
  kFinished,
  kReleased,
  kStep,
  kPressure,
  kSkipped,
  kSwappedOut,
  kLoaded,
  kCopy,
  kHostLost
};

template <typename T>
T field(const py::tuple& event, std::size_t i) {
  return event[i].cast<T>();
}

void apply_arrival(PolicyCore& core, const py::tuple& event) {
  // (kind, now, request, session, prompt_tokens, shared_tokens, hints or None[, host_tokens
  // [, origin]])
  lamps::Arrival arrival;
  arrival.request = field<lamps::RequestHandle>(event, 2);
  arrival.session = field<lamps::SessionHandle>(event, 3);
  arrival.prompt_tokens = field<lamps::Tokens>(event, 4);
  arrival.shared_tokens = field<lamps::Tokens>(event, 5);
  if (event.size() > 7) arrival.host_tokens = field<lamps::Tokens>(event, 7);
  std::string tool;
  if (!event[6].is_none()) {  // (output_tokens, call_seconds, tool, final_turn)
    const auto hints = event[6].cast<py::tuple>();
    arrival.hints.output_tokens = field<double>(hints, 0);
    arrival.hints.call_seconds = field<double>(hints, 1);
    tool = field<std::string>(hints, 2);
    arrival.hints.tool = tool;
    arrival.hints.final_turn = field<bool>(hints, 3);
  }
  if (event.size() > 8) {  // (prompt_class, cap_tokens, parent)
    const auto origin = event[8].cast<py::tuple>();
    arrival.prompt_class = field<lamps::ClassId>(origin, 0);
    arrival.cap_tokens = field<lamps::Tokens>(origin, 1);
    arrival.parent = field<lamps::SessionHandle>(origin, 2);
  }
  core.arrive(field<double>(event, 1), arrival);
}

void apply_finish(PolicyCore& core, const py::tuple& event) {
  // (kind, now, request, output_tokens, context_tokens, held_tokens, aborted[, tools or None])
  lamps::Finish finish;
  finish.request = field<lamps::RequestHandle>(event, 2);
  finish.output_tokens = field<lamps::Tokens>(event, 3);
  finish.context_tokens = field<lamps::Tokens>(event, 4);
  finish.held_tokens = field<lamps::Tokens>(event, 5);
  finish.aborted = field<bool>(event, 6);
  std::vector<std::string> names;
  std::vector<std::string_view> tools;
  if (event.size() > 7 && !event[7].is_none()) {  // None: nobody could look for calls
    names = field<std::vector<std::string>>(event, 7);
    tools.assign(names.begin(), names.end());
    finish.end = {true, tools};
  }
  core.finished(field<double>(event, 1), finish);
}

void apply(PolicyCore& core, const py::tuple& event) {
  switch (field<int>(event, 0)) {
    case kArrive:
      return apply_arrival(core, event);
    case kAdmitted:  // (kind, now, request, cached_tokens)
      return core.admitted(field<double>(event, 1), field<lamps::RequestHandle>(event, 2),
                           field<lamps::Tokens>(event, 3));
    case kPreempted:  // (kind, now, request)
      return core.preempted(field<double>(event, 1), field<lamps::RequestHandle>(event, 2));
    case kFinished:
      return apply_finish(core, event);
    case kReleased:  // (kind, session)
      return core.released(field<lamps::SessionHandle>(event, 1));
    case kStep:  // (kind, prefill_tokens, decode_seqs, context_tokens, seconds)
      return core.observe_step({field<lamps::Tokens>(event, 1), field<lamps::Tokens>(event, 2),
                                field<lamps::Tokens>(event, 3)},
                               field<double>(event, 4));
    case kPressure:  // (kind, now, session)
      return core.released_under_pressure(field<double>(event, 1),
                                          field<lamps::SessionHandle>(event, 2));
    case kSkipped:  // (kind, request)
      return core.skipped(field<lamps::RequestHandle>(event, 1));
    case kSwappedOut:  // (kind, now, session)
      return core.swapped_out(field<double>(event, 1), field<lamps::SessionHandle>(event, 2));
    case kLoaded:  // (kind, now, session)
      return core.loaded(field<double>(event, 1), field<lamps::SessionHandle>(event, 2));
    case kCopy:  // (kind, bytes, seconds)
      return core.observe_copy(field<lamps::Bytes>(event, 1), field<double>(event, 2));
    case kHostLost:  // (kind, session)
      return core.host_lost(field<lamps::SessionHandle>(event, 1));
    default:
      throw lamps::InvalidOption("event kind = " + std::to_string(field<int>(event, 0)) +
                                 ": expected an integer in [0, 11]");
  }
}

py::tuple begin_step(PolicyCore& core, double now, lamps::Tokens free_tokens,
                     lamps::Tokens step_tokens, std::int64_t slots,
                     const std::vector<lamps::RequestHandle>& running,
                     const std::vector<lamps::Tokens>& context, const py::list& events) {
  if (running.size() != context.size()) {
    throw lamps::InvalidOption("context has " + std::to_string(context.size()) +
                               " entries: expected " + std::to_string(running.size()) +
                               ", one per running request");
  }
  for (const py::handle event : events) apply(core, py::reinterpret_borrow<py::tuple>(event));
  lamps::StepPlan plan = core.begin_step({now, free_tokens, step_tokens, slots, running, context});
  return py::make_tuple(plan.admit, plan.release, plan.forget, plan.run_order, plan.drop_host,
                        plan.swap_out, plan.prefetch, plan.copy_ahead);
}

py::list scores(PolicyCore& core) {
  py::list out;
  for (const lamps::Predictor::Score& score : core.predictor().scores()) {
    const lamps::Calibration& seen = score.calibration;
    const auto share = [&](std::int64_t count) {
      return static_cast<double>(count) / static_cast<double>(seen.scored);
    };
    py::dict entry;
    entry["what"] = score.what;
    entry["name"] = score.name;
    entry["scored"] = seen.scored;
    entry["below_50"] = share(seen.below_50);
    entry["below_90"] = share(seen.below_90);
    entry["below_99"] = share(seen.below_99);
    entry["log_error"] = seen.log_error / static_cast<double>(seen.scored);
    entry["gain"] = score.gain;
    entry["drifts"] = score.drifts;
    entry["off"] = score.off;
    out.append(entry);
  }
  return out;
}

py::list take_switches(PolicyCore& core) {
  py::list out;
  for (const auto& change : core.predictor().take_switches()) {
    out.append(py::make_tuple(change.what, change.name, change.off));
  }
  return out;
}

py::list return_scores(PolicyCore& core) {
  py::list out;
  for (const auto& score : core.predictor().return_scores()) {
    out.append(py::make_tuple(score.returned, score.ended));
  }
  return out;
}

lamps::ClassId prompt_class(PolicyCore& core, const py::list& tokens) {
  const std::size_t count = std::min(tokens.size(), lamps::PromptClasses::kLongest);
  std::vector<std::int32_t> first(count);
  for (std::size_t i = 0; i < count; ++i) first[i] = tokens[i].cast<std::int32_t>();
  return core.predictor().prompt_class(lamps::PromptClasses::beginnings(first));
}

py::list take_decisions(PolicyCore& core) {
  py::list out;
  for (const lamps::Decision& decision : core.take_decisions()) {
    py::dict entry, waste;
    waste["preserve"] = decision.waste.preserve;
    waste["discard"] = decision.waste.discard;
    waste["swap"] = decision.waste.swap;
    entry["session"] = decision.session;
    entry["at"] = decision.at;
    entry["handling"] = lamps::to_string(decision.handling);
    entry["reason"] = lamps::to_string(decision.reason);
    entry["context_tokens"] = decision.context_tokens;
    entry["expected_call_s"] = decision.expected_call;
    entry["tool"] = core.predictor().tool_name(decision.tool);
    entry["waited_s"] = decision.waited;
    entry["p_return"] = decision.p_return;
    entry["pressure"] = decision.pressure;
    entry["waste"] = waste;
    out.append(entry);
  }
  return out;
}

}  // namespace

py::dict policy_report(const PolicyCore& core) {
  py::dict out;
  const lamps::Counters& c = core.counters();
  out["steps"] = c.steps;
  out["arrivals"] = c.arrivals;
  out["returns"] = c.returns;
  out["admissions"] = c.admissions;
  out["preemptions"] = c.preemptions;
  out["overdue"] = c.overdue;
  out["preserved"] = c.preserved;
  out["discarded"] = c.discarded;
  out["released"] = c.released;
  out["forgotten"] = c.forgotten;
  out["swapped"] = c.swapped;
  out["copied_ahead"] = c.copied_ahead;
  out["prefetched"] = c.prefetched;
  const lamps::Ledger& ledger = core.ledger();
  out["waiting"] = ledger.waiting();
  out["running"] = ledger.running();
  out["sessions"] = ledger.sessions();
  out["holders"] = ledger.holders().size();
  out["held_tokens"] = ledger.held_tokens();
  out["host_tokens"] = ledger.host_tokens();
  out["leaving_tokens"] = ledger.leaving_tokens();
  out["copying_tokens"] = ledger.copying_tokens();
  out["waiting_need"] = ledger.waiting_need();
  out["running_growth"] = ledger.running_growth();
  out["running_context"] = ledger.running_context();
  out["waiting_bound_s"] = core.waiting_bound();
  out["admission_share"] = core.budget().share();
  out["thrashed_tokens"] = core.budget().thrashed_tokens();
  const lamps::CostParameters& cost = core.cost().parameters();
  out["step_base_s"] = cost.base;
  out["step_per_prefill_s"] = cost.per_prefill;
  out["step_per_decode_s"] = cost.per_decode;
  out["step_per_context_s"] = cost.per_context;
  out["swap_bytes_per_s"] = cost.swap_bytes_per_s;
  out["step_relative_error"] = core.cost().relative_error();
  return out;
}

void bind_policy(py::module_& m) {
  m.attr("ARRIVE") = static_cast<int>(kArrive);
  m.attr("ADMITTED") = static_cast<int>(kAdmitted);
  m.attr("PREEMPTED") = static_cast<int>(kPreempted);
  m.attr("FINISHED") = static_cast<int>(kFinished);
  m.attr("RELEASED") = static_cast<int>(kReleased);
  m.attr("STEP") = static_cast<int>(kStep);
  m.attr("PRESSURE") = static_cast<int>(kPressure);
  m.attr("SKIPPED") = static_cast<int>(kSkipped);
  m.attr("SWAPPED_OUT") = static_cast<int>(kSwappedOut);
  m.attr("LOADED") = static_cast<int>(kLoaded);
  m.attr("COPY") = static_cast<int>(kCopy);
  m.attr("HOST_LOST") = static_cast<int>(kHostLost);
  py::class_<PolicyCore>(m, "PolicyCore", "The policy core of one engine; see csrc/lamps/policy.h.")
      .def(py::init<const lamps::Engine&, const lamps::Options&>(), py::arg("engine"),
           py::arg("options"))
      .def("keeps", &PolicyCore::keeps,
           "Whether the caller should keep a turn's KV when it finishes.")
      .def("begin_step", &begin_step, py::arg("now"), py::arg("free_tokens"),
           py::arg("step_tokens"), py::arg("slots"), py::arg("running"), py::arg("context"),
           py::arg("events"),
           "Applies the events since the last step, then plans this one. Returns (admit, release, "
           "forget, run_order, drop_host, swap_out, prefetch, copy_ahead), lists of handles.")
      .def("release_order", &PolicyCore::release_order, py::arg("now"), py::arg("tokens"),
           "Sessions that keep KV, cheapest to let go first, until `tokens` are covered.")
      .def("record_decisions", &PolicyCore::record_decisions, py::arg("on"))
      .def("take_decisions", &take_decisions,
           "Decisions recorded since the last call, oldest first.")
      .def("waiting_order", &PolicyCore::waiting_order, py::arg("limit"),
           "The first `limit` waiting requests in service order.")
      .def("report", &policy_report, "Counters, sums and the calibrated cost model.")
      .def("prompt_class", &prompt_class, py::arg("tokens"),
           "The class of a new session's prompt, by how it begins; counts it. -1: none yet.")
      .def("scores", &scores,
           "How good predictions were, by tool, kind of call and class of requests.")
      .def("take_switches", &take_switches,
           "(what, name, off) of predictions switched off or on since the last call.")
      .def("return_scores", &return_scores,
           "(returned, ended) of calls by the decile of their predicted chance to return.")
      .def(
          "restore_predictions",
          [](PolicyCore& core, std::string_view snapshot) {
            core.predictor() = lamps::read_snapshot(snapshot);
          },
          py::arg("snapshot"),
          "Starts from what an earlier run learned. Raises BadSnapshot; then nothing has changed.")
      .def("check_invariants", &PolicyCore::check_invariants);
  py::class_<lamps::SnapshotWriter>(m, "SnapshotWriter",
                                    "Writes what a core's predictor knows, slice by slice.")
      .def(py::init([](PolicyCore& core) { return lamps::SnapshotWriter(core.predictor()); }),
           py::arg("core"), py::keep_alive<1, 2>())
      .def("next", &lamps::SnapshotWriter::next, py::arg("most"),
           "The next lines, at most `most` levels; empty when all has been written.");
}
