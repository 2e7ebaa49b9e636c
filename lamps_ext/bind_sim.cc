// SPDX-License-Identifier: Apache-2.0
// The simulator for Python: columns come in and go out as numpy arrays. A simulation runs without
// the interpreter's lock; progress and Ctrl-C are looked at every so many steps.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lamps/errors.h"
#include "module.h"
#include "sim/simulation.h"

namespace py = pybind11;
namespace sim = lamps::sim;

namespace {

template <typename T>
using Column = py::array_t<T, py::array::c_style | py::array::forcecast>;

template <typename T>
std::vector<T> to_vector(const Column<T>& column) {
  return {column.data(), column.data() + column.size()};
}

template <typename T>
std::vector<T> to_vector(const std::optional<Column<T>>& column) {
  return column ? to_vector(*column) : std::vector<T>{};
}

template <typename T>
py::array_t<T> to_array(const std::vector<T>& column) {
  return py::array_t<T>(static_cast<py::ssize_t>(column.size()), column.data());
}

std::vector<std::string> strings(std::span<const std::string_view> names) {
  return std::vector<std::string>(names.begin(), names.end());
}

// What run() leaves; the simulation itself stays alive for the columns.
struct Run {
  std::shared_ptr<sim::Simulation> simulation;
  std::shared_ptr<sim::SessionTable> table;
  bool started = false;
};

struct Result {
  std::shared_ptr<sim::Simulation> simulation;
  [[nodiscard]] const sim::Recorder& recorder() const { return simulation->recorder(); }
};

Result run(Run& run, const py::object& progress, std::int64_t every_steps) {
  if (run.started) throw lamps::InvalidOption("a simulation runs once; make another one");
  run.started = true;
  const auto tick = [&](const sim::Progress& at) {
    const py::gil_scoped_acquire lock;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (progress.is_none()) return true;
    const py::object answer = progress(at.now, at.sessions_ended, at.sessions);
    return answer.is_none() || answer.cast<bool>();
  };
  const py::gil_scoped_release unlocked;
  run.simulation->run(tick, every_steps);
  return {run.simulation};
}

py::dict counters(const Result& result) {
  sim::EngineTotals sum;
  lamps::Tokens stored = 0;
  for (const sim::VirtualEngine& engine : result.simulation->engines()) {
    sum += engine.totals();
    stored += engine.stored_tokens();
  }
  py::dict out;
  out["steps"] = sum.steps;
  out["empty_steps"] = sum.empty_steps;
  out["busy_s"] = sum.busy;
  out["turns"] = result.recorder().sent();
  out["sessions"] = result.simulation->sessions_ended();
  out["prefill_tokens"] = sum.prefill_tokens;
  out["output_tokens"] = sum.output_tokens;
  out["cached_tokens"] = sum.cached_tokens;
  out["loaded_tokens"] = sum.loaded_tokens;
  out["stored_tokens"] = stored;
  out["recomputed_tokens"] = sum.recomputed_tokens;
  out["recomputed_after_preemption"] = sum.recomputed_after_preemption;
  out["preemptions"] = sum.preemptions;
  out["running_token_s"] = sum.running;
  out["held_token_s"] = sum.held;
  out["cached_token_s"] = sum.cached;
  out["empty_token_s"] = sum.empty;
  out["host_token_s"] = sum.host;
  return out;
}

py::dict turns(const Result& result) {
  const sim::TurnColumns& rows = result.recorder().turns();
  py::dict out;
  out["session"] = to_array(rows.session);
  out["segment"] = to_array(rows.segment);
  out["engine"] = to_array(rows.engine);
  out["sent"] = to_array(rows.sent);
  out["admitted"] = to_array(rows.admitted);
  out["first_token"] = to_array(rows.first_token);
  out["end"] = to_array(rows.end);
  out["prompt_tokens"] = to_array(rows.prompt_tokens);
  out["output_tokens"] = to_array(rows.output_tokens);
  out["cached_tokens"] = to_array(rows.cached_tokens);
  out["loaded_tokens"] = to_array(rows.loaded_tokens);
  out["recomputed_tokens"] = to_array(rows.recomputed_tokens);
  out["preemptions"] = to_array(rows.preemptions);
  return out;
}

py::dict sessions(const Result& result) {
  const sim::SessionColumns& rows = result.recorder().sessions();
  py::dict out;
  out["template"] = to_array(rows.row);
  out["arrival"] = to_array(rows.arrival);
  out["end"] = to_array(rows.end);
  out["tool_s"] = to_array(rows.tool_seconds);
  return out;
}

py::dict samples(const Result& result) {
  const sim::SampleColumns& rows = result.recorder().samples();
  py::dict out;
  out["at"] = to_array(rows.at);
  out["engine"] = to_array(rows.engine);
  out["running_tokens"] = to_array(rows.running_tokens);
  out["held_tokens"] = to_array(rows.held_tokens);
  out["cached_tokens"] = to_array(rows.cached_tokens);
  out["empty_tokens"] = to_array(rows.empty_tokens);
  out["host_tokens"] = to_array(rows.host_tokens);
  out["running"] = to_array(rows.running);
  out["waiting"] = to_array(rows.waiting);
  out["paused_holding"] = to_array(rows.paused_holding);
  return out;
}

py::dict histograms(const Result& result) {
  const sim::Distributions& all = result.recorder().distributions();
  py::dict out;
  out["session_s"] = all.session;
  out["session_without_tools_s"] = all.session_without_tools;
  out["first_ttft_s"] = all.first_ttft;
  out["tool_ttft_s"] = all.tool_ttft;
  out["turn_s"] = all.turn;
  return out;
}

py::list decisions(const Result& result) {
  sim::DecisionCounts sum;
  for (const sim::VirtualEngine& engine : result.simulation->engines()) {
    if (!engine.core()) continue;
    for (const auto& [what, count] : engine.core()->decisions()) sum[what] += count;
  }
  py::list out;
  for (const auto& [what, count] : sum) {
    const auto& [handling, reason, tool] = what;
    out.append(py::make_tuple(lamps::to_string(handling), lamps::to_string(reason), tool, count));
  }
  return out;
}

py::list reports(const Result& result) {
  py::list out;
  for (const sim::VirtualEngine& engine : result.simulation->engines()) {
    if (engine.core()) out.append(policy_report(engine.core()->core()));
  }
  return out;
}

void bind_inputs(py::module_& m) {
  py::class_<sim::EngineModel>(m, "SimEngine",
                               "A simulated engine: size, true step time, how it schedules.")
      .def(py::init([](lamps::Tokens capacity_tokens, lamps::Tokens block_tokens,
                       lamps::Tokens max_context, lamps::Tokens step_tokens,
                       lamps::Tokens max_running, double base, double per_prefill,
                       double per_decode, double per_context, double per_prefill_context,
                       double idle_step, bool prefix_caching, bool ahead, lamps::Tokens host_tokens,
                       double host_bytes_per_s, lamps::Bytes kv_bytes_per_token,
                       const std::string& host) {
             sim::EngineModel engine;
             engine.capacity_tokens = capacity_tokens;
             engine.block_tokens = block_tokens;
             engine.max_context = max_context;
             engine.step_tokens = step_tokens;
             engine.max_running = max_running;
             engine.cost = {base,        per_prefill,      per_decode,
                            per_context, host_bytes_per_s, kv_bytes_per_token};
             engine.per_prefill_context = per_prefill_context;
             engine.idle_step = idle_step;
             engine.prefix_caching = prefix_caching;
             engine.ahead = ahead;
             engine.host_tokens = host_tokens;
             engine.host_use = sim::host_use_from(host);
             engine.validate();
             return engine;
           }),
           py::kw_only(), py::arg("capacity_tokens"), py::arg("block_tokens") = 16,
           py::arg("max_context"), py::arg("step_tokens") = 2048, py::arg("max_running") = 256,
           py::arg("base"), py::arg("per_prefill"), py::arg("per_decode"),
           py::arg("per_context") = 0.0, py::arg("per_prefill_context") = 0.0,
           py::arg("idle_step") = 0.001, py::arg("prefix_caching") = true, py::arg("ahead") = false,
           py::arg("host_tokens") = 0, py::arg("host_bytes_per_s") = 0.0,
           py::arg("kv_bytes_per_token") = 0, py::arg("host") = "offload");
  py::class_<sim::SessionTable, std::shared_ptr<sim::SessionTable>>(
      m, "SimSessions", "Sessions by column; segments of session i are first_segment[i:i + 2].")
      .def(
          py::init([](const Column<std::int64_t>& first_segment,
                      const Column<std::int32_t>& prompt_tokens,
                      const Column<std::int32_t>& output_tokens, const Column<double>& call_seconds,
                      const std::optional<Column<double>>& arrival,
                      const std::optional<Column<std::int32_t>>& kept_tokens,
                      const std::optional<Column<std::int32_t>>& tool, bool tool_hints,
                      const std::optional<Column<std::int32_t>>& called,
                      const std::optional<Column<double>>& hint_output,
                      const std::optional<Column<double>>& hint_call,
                      const std::optional<Column<std::uint8_t>>& hint_final,
                      const std::optional<Column<std::int32_t>>& shared_group,
                      const std::optional<Column<std::int32_t>>& shared_tokens) {
            sim::SessionTable table;
            table.first_segment = to_vector(first_segment);
            table.prompt_tokens = to_vector(prompt_tokens);
            table.output_tokens = to_vector(output_tokens);
            table.call_seconds = to_vector(call_seconds);
            table.arrival = to_vector(arrival);
            table.kept_tokens = to_vector(kept_tokens);
            table.tool = to_vector(tool);
            table.tool_hints = tool_hints;
            table.called = to_vector(called);
            table.hint_output = to_vector(hint_output);
            table.hint_call = to_vector(hint_call);
            table.hint_final = to_vector(hint_final);
            table.shared_group = to_vector(shared_group);
            table.shared_tokens = to_vector(shared_tokens);
            return std::make_shared<sim::SessionTable>(std::move(table));
          }),
          py::arg("first_segment"), py::arg("prompt_tokens"), py::arg("output_tokens"),
          py::arg("call_seconds"), py::arg("arrival") = py::none(),
          py::arg("kept_tokens") = py::none(), py::arg("tool") = py::none(),
          py::arg("tool_hints") = false, py::arg("called") = py::none(),
          py::arg("hint_output") = py::none(), py::arg("hint_call") = py::none(),
          py::arg("hint_final") = py::none(), py::arg("shared_group") = py::none(),
          py::arg("shared_tokens") = py::none())
      .def("__len__", &sim::SessionTable::sessions);
  py::class_<sim::Load>(m, "SimLoad", "When sessions start: given, poisson or closed.")
      .def(py::init([](const std::string& kind, double rate, std::int64_t concurrency,
                       std::int64_t sessions, std::uint64_t seed) {
             return sim::Load{sim::starts_from(kind), rate, concurrency, sessions, seed};
           }),
           py::arg("kind"), py::kw_only(), py::arg("rate") = 0.0, py::arg("concurrency") = 0,
           py::arg("sessions") = 0, py::arg("seed") = 0);
}

void bind_outputs(py::module_& m) {
  py::class_<sim::Distribution>(m, "SimHistogram", "Counts in bins 2 % wide.")
      .def_property_readonly("count", &sim::Distribution::count)
      .def_property_readonly("mean", &sim::Distribution::mean)
      .def_property_readonly("max", &sim::Distribution::max)
      .def("quantile", &sim::Distribution::quantile, py::arg("q"))
      .def_property_readonly("counts",
                             [](const sim::Distribution& self) { return to_array(self.counts()); })
      .def_property_readonly(
          "edges",
          [](const sim::Distribution& self) {
            std::vector<double> edges(self.counts().size() + 1);
            for (std::size_t i = 0; i < edges.size(); ++i) edges[i] = sim::Distribution::edge(i);
            return to_array(edges);
          },
          "Bin edges, one more than counts.");
  py::class_<Result>(m, "SimResult", "What a simulation recorded; columns are numpy arrays.")
      .def_property_readonly("complete", [](const Result& r) { return r.simulation->complete(); })
      .def_property_readonly("now", [](const Result& r) { return r.simulation->now(); })
      .def_property_readonly("counters", &counters)
      .def_property_readonly("turns", &turns)
      .def_property_readonly("sessions", &sessions)
      .def_property_readonly("samples", &samples)
      .def_property_readonly("histograms", &histograms)
      .def_property_readonly("decisions", &decisions, "List of (handling, reason, tool, count).")
      .def_property_readonly("reports", &reports, "PolicyCore.report() of every engine.");
}

}  // namespace

void bind_sim(py::module_& m) {
  bind_inputs(m);
  bind_outputs(m);
  m.def("sim_schedulers", [] { return strings(sim::scheduling_names()); });
  m.def("sim_routers", [] { return strings(sim::routing_names()); });
  m.def("sim_loads", [] { return strings(sim::starts_names()); });
  py::class_<Run>(m, "Simulation",
                  "Engines in virtual time under a router, driving the policy core; deterministic.")
      .def(py::init([](const sim::EngineModel& engine,
                       const std::shared_ptr<sim::SessionTable>& sessions, const sim::Load& load,
                       const lamps::Options& options, const std::string& scheduler,
                       std::int64_t engines, const std::string& router, bool record_turns,
                       double sample_seconds, bool record_decisions, std::int64_t check_every) {
             sim::SimulationOptions how;
             how.scheduling = sim::scheduling_from(scheduler);
             how.routing = sim::routing_from(router);
             how.engines = engines;
             how.record_turns = record_turns;
             how.sample_seconds = sample_seconds;
             how.record_decisions = record_decisions;
             how.check_every = check_every;
             return Run{std::make_shared<sim::Simulation>(engine, *sessions, load, options, how),
                        sessions};
           }),
           py::arg("engine"), py::arg("sessions"), py::arg("load"),
           py::arg_v("options", lamps::Options{}, "Options()"), py::kw_only(),
           py::arg("scheduler") = "core", py::arg("engines") = 1, py::arg("router") = "sticky",
           py::arg("record_turns") = true, py::arg("sample_seconds") = 0.0,
           py::arg("record_decisions") = false, py::arg("check_every") = 0)
      .def("run", &run, py::arg("progress") = py::none(), py::arg("every_steps") = 65536,
           "Runs to the end, or until progress(now, sessions_ended, sessions) returns False; it is "
           "called every so many steps. Once per object.");
}
