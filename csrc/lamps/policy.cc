// SPDX-License-Identifier: Apache-2.0
// Events and reports of the policy core; policy_step.cc has the decisions of a step.
#include "lamps/policy.h"

#include <algorithm>
#include <string>
#include <utility>

#include "lamps/errors.h"

namespace lamps {
namespace {

constexpr double kAverage = 0.05;  // weight of a new observation in the running averages

void average(double& value, double seen) { value += kAverage * (seen - value); }

}  // namespace

const char* to_string(Reason reason) {
  switch (reason) {
    case Reason::kPreserved:
      return "keeping wastes least";
    case Reason::kLeastWaste:
      return "letting go wastes least";
    case Reason::kRoomForWaiting:
      return "room for a waiting turn";
    case Reason::kRoomForRunning:
      return "room for running turns";
    case Reason::kOverdue:
      return "room for an overdue turn";
    case Reason::kExpired:
      return "not expected back";
    case Reason::kFinal:
      return "the client said it was the last turn";
    case Reason::kReturned:
      return "returned";
    case Reason::kPrefetched:
      return "about to return";
  }
  return "?";
}

PolicyCore::PolicyCore(const Engine& engine, const Options& options)
    : engine_(engine),
      options_((options.validate(), options)),
      cost_(options.cost),
      budget_(std::max<Tokens>(engine.capacity_tokens, 1), options.min_admission_share,
              options.admission_share),
      scene_{engine_, options_, cost_, predictor_, budget_, ledger_, load_},
      rules_(make_rules(options.policy, scene_)) {
  engine_.validate();
}

void PolicyCore::refresh(RequestHandle handle) {
  Request& request = ledger_.request(handle);
  ledger_.set_footprint(handle, scene_.peak_of(request), request.shared_tokens);
  request.last_refresh = step_;
  ready_.rekey(handle, rules_->key_of(request));
}

void PolicyCore::arrive(Seconds now, const Arrival& arrival) {
  if (ledger_.has_request(arrival.request)) {
    throw UnknownHandle("request " + std::to_string(arrival.request) + " has arrived before");
  }
  ++counters_.arrivals;
  const bool is_new = !ledger_.has_session(arrival.session);
  if (!is_new) {
    Session& known = ledger_.session(arrival.session);
    if (known.state == SessionState::kPaused) {
      ++counters_.returns;
      known.last_call = std::max(now - known.paused_at, 0.0);
      count_silence(arrival.session, 0.0);
      predictor_.observe_call(known.call_facts, known.last_call);
      if (pause_timers_.contains(arrival.session)) pause_timers_.remove(arrival.session);
      keep_untold(arrival.session);
      take_off_copy_list(arrival.session);
      record(now, arrival.session, Handling::kPreserve, Reason::kReturned);
    }
  }
  Session& session = ledger_.enter(arrival.session, now);
  Request& request = ledger_.add_waiting(arrival.request, arrival.session);
  session.latest = arrival.request;
  if (is_new) {
    session.prompt_class = arrival.prompt_class;
    // A child's work is its parent's work: it takes its place in the order.
    if (arrival.parent != arrival.session && ledger_.has_session(arrival.parent)) {
      session.arrival = std::min(now, ledger_.session(arrival.parent).arrival);
      session.branch = true;
    }
  }
  request.facts.turn = session.turns++;
  request.facts.last_call = session.last_call;
  if (!arrival.hints.tool.empty()) request.facts.tool = predictor_.tool_id(arrival.hints.tool);
  request.facts.prompt = session.prompt_class;
  request.facts.cap_tokens = arrival.cap_tokens;
  request.facts.calls_tools = session.call_facts.calls_tools;
  request.prompt_tokens = arrival.prompt_tokens;
  request.output_hint = arrival.hints.output_tokens;
  request.call_hint = arrival.hints.call_seconds;
  request.final_hint = arrival.hints.final_turn;
  request.sequence = next_sequence_++;
  request.arrived = now;
  const Tokens shared =
      std::min(arrival.prompt_tokens, arrival.shared_tokens + session.resident_tokens());
  const Tokens swapped = session.copy == Copy::kHost ? session.host_tokens : 0;
  request.host_tokens =
      std::min(arrival.prompt_tokens - shared, std::max(arrival.host_tokens, swapped));
  ledger_.set_footprint(arrival.request, scene_.peak_of(request), shared);
  rules_->on_arrival(now, request);
  start_waiting(now, arrival.request);
}

void PolicyCore::start_waiting(Seconds now, RequestHandle handle) {
  const Request& request = ledger_.request(handle);
  ready_.push(handle, rules_->key_of(request));
  if (!request.overdue && rules_->ages(request)) waits_.add(handle, now, step_);
}

void PolicyCore::stop_waiting(RequestHandle handle) {
  ready_.remove(handle);
  if (waits_.contains(handle)) waits_.remove(handle);  // the overdue have left that list already
}

// Over what Load::recompute_share is averaged; more than none, whatever the cost model says.
Seconds PolicyCore::refill_seconds() const {
  const Seconds refill = cost_.recompute_time(engine_.capacity_tokens, engine_.step_tokens);
  return std::max(Load::kRefills * refill, 1e-3);
}

void PolicyCore::note_recomputed(Tokens tokens) {
  if (tokens <= 0) return;
  load_.recompute_share += cost_.recompute_time(tokens, engine_.step_tokens) / refill_seconds();
}

void PolicyCore::admitted(Seconds now, RequestHandle handle, Tokens cached_tokens) {
  Request& request = ledger_.request(handle);
  Session& session = ledger_.session(request.session);
  ++counters_.admissions;
  stop_waiting(handle);
  rules_->on_admission(now, request);
  request.started = now;
  const bool had_kv = session.held_tokens > 0 || session.copy != Copy::kNone;
  if (session.context_tokens > 0 && request.facts.turn > 0 && !request.preempted) {
    const double kept = static_cast<double>(std::min(cached_tokens, session.context_tokens)) /
                        static_cast<double>(session.context_tokens);
    if (!had_kv) average(load_.loss_share, 1.0 - kept);
    if (session.lost_kv) {
      const auto lost = session.context_tokens - std::min(cached_tokens, session.context_tokens);
      budget_.on_thrash(lost);
    } else {
      budget_.on_served(session.context_tokens);
    }
  } else {
    budget_.on_served(request.prompt_tokens);
  }
  note_recomputed((request.preempted ? request.prompt_tokens : session.context_tokens) -
                  cached_tokens);
  session.lost_kv = false;
  drop_host(request.session);
  ledger_.release(request.session);  // its blocks are now the request's own
  ledger_.start(handle);
  ledger_.set_context(handle, std::max(cached_tokens, ledger_.request(handle).context_tokens));
}

void PolicyCore::skipped(RequestHandle handle) {
  ledger_.request(handle).skipped = true;
  ++skipped_;
}

void PolicyCore::preempted(Seconds now, RequestHandle handle) {
  ++counters_.preemptions;
  budget_.on_thrash(ledger_.request(handle).context_tokens);
  ledger_.stop(handle);
  Request& request = ledger_.request(handle);
  request.preemption = counters_.preemptions;
  request.overdue = request.overdue && rules_->stays_overdue();
  ledger_.session(request.session).served += std::max(now - request.started, 0.0);
  start_waiting(now, handle);
}

void PolicyCore::finished(Seconds now, const Finish& finish) {
  const Request request = ledger_.request(finish.request);
  if (request.state == RequestState::kWaiting) stop_waiting(finish.request);
  ledger_.remove(finish.request);
  Session& session = ledger_.session(request.session);
  if (request.state == RequestState::kRunning) {
    session.served += std::max(now - request.started, 0.0);
  }
  if (!finish.aborted) {
    predictor_.observe_output(request.facts, finish.output_tokens);
    session.context_tokens = finish.context_tokens;
    session.call_facts = predictor_.at_end(request.facts, finish.end);
    session.call_hint = request.call_hint;
    ledger_.hold(request.session, finish.held_tokens);
  }
  if (session.live > 0) return;  // n > 1 or a duplicate id: the session is still at work
  ledger_.pause(request.session, now);
  if (finish.aborted || request.final_hint) {
    end_session(now, request.session, request.final_hint ? Reason::kFinal : Reason::kExpired);
    return;
  }
  rules_->on_pause(now, request.session);
  StepPlan plan;
  decide_pause(now, request.session, plan);
  if (session.held_tokens > 0) ++counters_.preserved;
  if (session.held_tokens > 0 && engine_.host_tokens > 0 && rules_->copies_ahead()) {
    uncopied_.add(request.session, now, step_);
  }
  if (session.resident_tokens() == 0) ++counters_.discarded;
  to_release_.insert(to_release_.end(), plan.release.begin(), plan.release.end());
  to_swap_out_.insert(to_swap_out_.end(), plan.swap_out.begin(), plan.swap_out.end());
}

// Where the KV is that the session's waiting turn, if there is one, will find. Others of the
// session that wait at the same time (n > 1, or a duplicate id) have no footprint of it, but a
// place by it.
void PolicyCore::move_footprint(SessionHandle handle, Tokens shared, Tokens host) {
  const Session& session = ledger_.session(handle);
  const RequestHandle latest = session.latest;
  const bool waits = ledger_.has_request(latest) && ready_.contains(latest) &&
                     ledger_.request(latest).session == handle;
  if (waits) {
    Request& request = ledger_.request(latest);
    request.host_tokens = std::min(host, request.prompt_tokens - shared);
    ledger_.set_footprint(latest, request.peak_tokens, shared);
    ready_.rekey(latest, rules_->key_of(request));
  }
  if (session.live > (waits ? 1 : 0)) rekey_waiting(handle);
}

void PolicyCore::released(SessionHandle handle) {
  if (!ledger_.has_session(handle)) return;
  keep_untold(handle);
  take_off_copy_list(handle);
  forget_host(handle);
  ledger_.release(handle);
  move_footprint(handle, 0, 0);
}

void PolicyCore::released_under_pressure(Seconds now, SessionHandle handle) {
  if (!ledger_.has_session(handle)) return;
  let_go(now, handle, Reason::kRoomForRunning);
}

void PolicyCore::observe_step(const StepLoad& load, Seconds measured) {
  cost_.observe_step(load, measured);
  if (measured > 0.0 && measured < 60.0) average(load_.decode_step, measured);
}

void PolicyCore::record(Seconds now, SessionHandle handle, Handling handling, Reason reason) {
  if (!recording_) return;
  const Session& session = ledger_.session(handle);
  Decision decision;
  decision.session = handle;
  decision.at = now;
  decision.handling = handling;
  decision.reason = reason;
  decision.context_tokens = session.context_tokens;
  decision.pressure = load_.pressure;
  if (session.state == SessionState::kPaused) {
    const PauseContext pause = scene_.pause_context(now, session);
    decision.expected_call = pause.expected_remaining;
    decision.tool = session.call_facts.tool;
    decision.waited = std::max(now - session.paused_at, 0.0);
    decision.p_return = pause.p_return;
    decision.waste = waste_of(pause, cost_);
  }
  decisions_.push_back(decision);
}

std::vector<Decision> PolicyCore::take_decisions() { return std::exchange(decisions_, {}); }

void PolicyCore::check_invariants() const {
  ledger_.check_invariants();
  ready_.check_invariants();
  waits_.check_invariants();
  pause_timers_.check_invariants();
  on_host_.check_invariants();
  check_copy_list();
  if (ready_.size() != ledger_.waiting()) {
    throw InvariantViolation(
        "policy: the ready queue and the ledger count different waiting requests");
  }
}

}  // namespace lamps
