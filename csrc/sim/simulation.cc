// SPDX-License-Identifier: Apache-2.0
#include "sim/simulation.h"

#include <algorithm>
#include <functional>
#include <string>

#include "lamps/errors.h"
#include "sim/slots.h"

namespace lamps::sim {
namespace {

template <typename T>
T value_or(const std::vector<T>& column, std::int64_t row, T otherwise) {
  return column.empty() ? otherwise : column[static_cast<std::size_t>(row)];
}

// What a router minds: a waiting turn counts as much as four that run, as in vLLM's own balancer.
std::size_t load_of(const VirtualEngine& engine) { return 4 * engine.waiting() + engine.running(); }

}  // namespace

void SimulationOptions::validate() const {
  require_in_range("engines", static_cast<double>(engines), 1, 10'000);
  require_in_range("sample_seconds", sample_seconds, 0, 1e9);
  require_in_range("check_every", static_cast<double>(check_every), 0, 1e9);
}

Simulation::Simulation(const EngineModel& engine, const SessionTable& table, const Load& load,
                       const Options& policy, const SimulationOptions& options)
    : table_((engine.validate(), table.validate(engine), options.validate(), table)),
      options_(options),
      source_(table, load),
      recorder_(options.record_turns, options.sample_seconds) {
  for (std::int64_t i = 0; i < options.engines; ++i) {
    engines_.emplace_back(engine, options.scheduling, policy, options.record_decisions);
  }
}

Seconds Simulation::next_send() const {
  return std::min(source_.next_at(), dues_.empty() ? kForever : dues_.front().at);
}

void Simulation::send_next() {
  // A session that starts has a larger number than every one that returns at the same instant.
  if (dues_.empty() || source_.next_at() < dues_.front().at) {
    start_session();
    return;
  }
  const Due due = dues_.front();
  std::pop_heap(dues_.begin(), dues_.end(), std::greater<>());
  dues_.pop_back();
  send_turn(due.client, due.at);
}

void Simulation::start_session() {
  const SessionSource::Start start = source_.pop();
  const ClientId id = take_slot(clients_, idle_);
  Client& fresh = client(id);
  fresh = {};
  fresh.number = start.number;
  fresh.row = start.row;
  fresh.segment = table_.first_segment[static_cast<std::size_t>(start.row)];
  fresh.started = start.at;
  // The last token of a prompt is always computed, so it is nobody else's.
  fresh.shared = std::min(value_or(table_.shared_tokens, start.row, 0),
                          table_.prompt_tokens[static_cast<std::size_t>(fresh.segment)] - 1);
  recorder_.session_started(start.row, start.at);
  send_turn(id, start.at);
}

std::size_t Simulation::route(const Client& from) {
  if (engines_.size() == 1) return 0;
  if (options_.routing == Routing::kRoundRobin) return next_engine_++ % engines_.size();
  if (options_.routing == Routing::kSticky && from.engine != kNoHandle) {
    return static_cast<std::size_t>(from.engine);
  }
  const auto least = std::min_element(
      engines_.begin(), engines_.end(),
      [](const VirtualEngine& a, const VirtualEngine& b) { return load_of(a) < load_of(b); });
  return static_cast<std::size_t>(least - engines_.begin());
}

void Simulation::rewrite_history(ClientId id) {
  Client& from = client(id);
  const Tokens kept = value_or(table_.kept_tokens, from.segment, -1);
  if (kept < 0 || kept >= from.context) return;
  from.context = kept;
  from.known = std::min(from.known, kept);
  from.shared = std::min(from.shared, kept);
  for (VirtualEngine& engine : engines_) engine.rewritten(id, kept);
}

void Simulation::send_turn(ClientId id, Seconds now) {
  rewrite_history(id);
  Client& from = client(id);
  const std::size_t engine = route(from);
  from.engine = static_cast<std::int32_t>(engine);
  from.sent_at = now;
  const std::int64_t first = table_.first_segment[static_cast<std::size_t>(from.row)];
  const auto segment = static_cast<std::size_t>(from.segment);
  TurnRequest request;
  request.client = id;
  request.number = from.number;
  request.record = recorder_.turn_sent({.session = from.number,
                                        .segment = static_cast<std::int32_t>(from.segment - first),
                                        .engine = from.engine,
                                        .at = now});
  request.prompt_tokens = from.context + table_.prompt_tokens[segment];
  request.output_tokens = table_.output_tokens[segment];
  request.known_tokens = from.known;
  request.group = value_or(table_.shared_group, from.row, kNoHandle);
  request.shared_tokens = from.shared;
  request.tool = value_or(table_.tool, from.segment, kNoHandle);
  request.names_tool = table_.tool_hints;
  request.called = value_or(table_.called, from.segment, kNotRead);
  request.hint_output = value_or(table_.hint_output, from.segment, -1.0);
  request.hint_call = value_or(table_.hint_call, from.segment, -1.0);
  request.hint_final = value_or(table_.hint_final, from.segment, std::uint8_t{0}) != 0;
  engines_[engine].send(now, request);
}

void Simulation::turn_ended(const Turn& turn) {
  Client& from = client(turn.client);
  const std::int64_t first = table_.first_segment[static_cast<std::size_t>(from.row)];
  const std::int64_t end = table_.first_segment[static_cast<std::size_t>(from.row) + 1];
  recorder_.turn_ended(turn, from.sent_at, from.segment == first);
  if (from.segment + 1 == end) {
    end_session(turn.client, turn.end);
    return;
  }
  const Seconds call = table_.call_seconds[static_cast<std::size_t>(from.segment)];
  from.context = turn.target;
  from.known = turn.known;
  from.tool_seconds += call;
  ++from.segment;
  dues_.push_back({turn.end + call, from.number, turn.client});
  std::push_heap(dues_.begin(), dues_.end(), std::greater<>());
}

void Simulation::end_session(ClientId id, Seconds now) {
  const Client& from = client(id);
  recorder_.session_ended(from.number, from.started, from.tool_seconds, now);
  ++ended_;
  for (VirtualEngine& engine : engines_) engine.client_gone(id);
  idle_.push_back(id);
  source_.ended(now);
}

void Simulation::serve(std::size_t index) {
  VirtualEngine& engine = engines_[index];
  for (const Turn& turn : engine.end_step(now_)) turn_ended(turn);
  while (next_send() <= now_) send_next();  // what a turn that ends now causes at once, too
  engine.plan(now_);
}

void Simulation::run(const std::function<bool(const Progress&)>& progress,
                     std::int64_t every_steps) {
  require_in_range("every_steps", static_cast<double>(every_steps), 1, 1e12);
  std::int64_t steps = 0;
  while (true) {
    std::size_t next = 0;
    for (std::size_t i = 1; i < engines_.size(); ++i) {
      if (engines_[i].wakes_at() < engines_[next].wakes_at()) next = i;
    }
    const Seconds send_at = next_send(), step_at = engines_[next].wakes_at();
    const Seconds at = std::min(send_at, step_at);
    if (at == kForever) break;
    while (recorder_.sample_at() <= at) recorder_.sample(engines_);
    now_ = at;
    if (send_at < step_at) {
      send_next();
      continue;
    }
    serve(next);
    ++steps;
    if (options_.check_every > 0 && steps % options_.check_every == 0) check_invariants();
    if (progress && steps % every_steps == 0 && !progress({now_, ended_, source_.total()})) {
      return;
    }
  }
}

void Simulation::check_invariants() const {
  std::size_t turns = 0;
  for (const VirtualEngine& engine : engines_) {
    engine.check_invariants();
    turns += engine.waiting() + engine.running();
  }
  const std::size_t live = clients_.size() - idle_.size();
  if (turns + dues_.size() != live) {
    throw InvariantViolation("simulation: " + std::to_string(live) + " sessions are alive, but " +
                             std::to_string(turns) + " turns and " + std::to_string(dues_.size()) +
                             " pauses are known");
  }
}

}  // namespace lamps::sim
