// SPDX-License-Identifier: Apache-2.0
// What the policy core decides once per engine step.
#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "lamps/hold.h"
#include "lamps/policy.h"

namespace lamps {
namespace {

constexpr std::size_t kMostRefreshes = 4;   // ranks refreshed per step: keeps a step O(log n)
constexpr std::size_t kMostScanned = 16;    // table entries looked at to find them
constexpr std::size_t kMostDecisions = 32;  // due pauses settled per step
constexpr double kWorkingShare = 0.25;      // below this share of the pool at work, while someone
                                            // waits, kept pauses give way
constexpr double kCalm = 0.15;              // averaged pressure below which the engine is calm
constexpr Seconds kCrowdSeconds = 2.0;      // ... and the time it is averaged over
constexpr double kGrowth = 0.5;             // next re-decision when the pause has grown by half

}  // namespace

bool PolicyCore::calm() const { return crowding_ < kCalm; }

bool PolicyCore::has_begun(const Request& request) {
  return request.facts.turn > 0 || request.preempted;
}

PauseContext PolicyCore::pause_context(Seconds now, const Session& session) const {
  const Seconds elapsed = std::max(now - session.paused_at, 0.0);
  PauseContext pause;
  pause.context_tokens = session.held_tokens > 0 ? session.held_tokens : session.context_tokens;
  pause.other_tokens = ledger_.running_context();
  pause.expected_remaining = session.call_hint > elapsed
                                 ? session.call_hint - elapsed
                                 : predictor_.remaining_call(session.call_facts, elapsed);
  pause.p_return = predictor_.p_return(session.call_facts, elapsed);
  pause.pressure = pressure_;
  pause.loss_share = loss_share_;
  pause.chunk = engine_.step_tokens;
  return pause;
}

// A session that has not returned by then is taken as ended.
Seconds PolicyCore::forgotten_at(const Session& session) const {
  return session.paused_at + std::min(predictor_.patience(), options_.forget_seconds);
}

void PolicyCore::schedule_decision(Seconds now, SessionHandle handle) {
  const Session& session = ledger_.session(handle);
  const Seconds elapsed = std::max(now - session.paused_at, 0.0);
  Seconds next = now + std::max(options_.redecide_seconds, kGrowth * elapsed);
  const Seconds end = forgotten_at(session);
  next = session.held_tokens == 0 ? std::max(next, end) : std::min(next, end);
  const ReadyKey key{0, next, static_cast<std::uint64_t>(handle)};
  if (pause_timers_.contains(handle)) {
    pause_timers_.rekey(handle, key);
  } else {
    pause_timers_.push(handle, key);
  }
}

void PolicyCore::let_go(Seconds now, SessionHandle handle, Reason reason) {
  Session& session = ledger_.session(handle);
  const bool by_choice =
      reason == Reason::kLeastWaste || reason == Reason::kExpired || reason == Reason::kFinal;
  if (!by_choice) {
    session.lost_kv = true;
    ++counters_.released;
  }
  record(now, handle, Handling::kDiscard, reason);
  if (reason != Reason::kRoomForRunning) freeing_ += session.held_tokens;
  released(handle);
  if (session.state == SessionState::kPaused) schedule_decision(now, handle);
}

void PolicyCore::end_session(Seconds now, SessionHandle handle, Reason reason) {
  if (ledger_.session(handle).held_tokens > 0) to_release_.push_back(handle);
  let_go(now, handle, reason);
  if (pause_timers_.contains(handle)) pause_timers_.remove(handle);
  ledger_.erase(handle);
  to_forget_.push_back(handle);
  ++counters_.forgotten;
}

void PolicyCore::decide_pause(Seconds now, SessionHandle handle, StepPlan& plan) {
  const Session& session = ledger_.session(handle);
  const Seconds elapsed = std::max(now - session.paused_at, 0.0);
  if (session.held_tokens > 0) {
    const PauseContext pause = pause_context(now, session);
    const Waste waste = waste_of(pause, cost_);
    const double lost = pause.p_return > 0 ? waste.discard / pause.p_return : 0.0;
    const auto still_out = [&](Seconds later) {
      if (session.call_hint > elapsed) return elapsed + later < session.call_hint ? 1.0 : 0.0;
      return predictor_.still_out(session.call_facts, elapsed, later);
    };
    const double holding = static_cast<double>(pause.context_tokens) * pause.pressure;
    const Hold hold = best_hold(holding, lost, pause.p_return, still_out, 1e-3,
                                std::max(predictor_.patience(), 1.0));
    if (!options_.preserve || hold.until <= 0.0) {
      plan.release.push_back(handle);
      let_go(now, handle, Reason::kLeastWaste);
      return;
    }
    if (elapsed <= 0.0) record(now, handle, Handling::kPreserve, Reason::kPreserved);
  }
  schedule_decision(now, handle);
}

void PolicyCore::settle_pauses(Seconds now, StepPlan& plan) {
  for (std::size_t i = 0; i < kMostDecisions && !pause_timers_.empty(); ++i) {
    const SessionHandle handle = pause_timers_.top();
    if (pause_timers_.key_of(handle).deadline > now) return;
    const Session& session = ledger_.session(handle);
    if (now >= forgotten_at(session)) {
      predictor_.observe_no_return(session.call_facts);
      end_session(now, handle, Reason::kExpired);
    } else {
      decide_pause(now, handle, plan);
    }
  }
}

void PolicyCore::mark_overdue(Seconds now) {
  for (RequestHandle oldest = waits_.oldest(); oldest != kNoHandle; oldest = waits_.oldest()) {
    if (step_ - waits_.step(oldest) < options_.starvation_threshold) return;
    if (now - waits_.since(oldest) < options_.starvation_seconds) return;
    waits_.remove(oldest);
    Request& request = ledger_.request(oldest);
    request.overdue = true;
    ++counters_.overdue;
    ready_.rekey(oldest, key_of(request));
  }
}

void PolicyCore::refresh_some() {
  const auto waiting = static_cast<Steps>(ledger_.waiting());
  if (waiting == 0) return;
  const Steps share =
      (waiting + options_.score_update_interval - 1) / options_.score_update_interval;
  const std::size_t wanted = std::min(kMostRefreshes, static_cast<std::size_t>(share));
  std::size_t done = 0;
  for (std::size_t i = 0; i < kMostScanned && done < wanted; ++i) {
    refresh_cursor_ = refresh_cursor_ + 1 < ledger_.request_table_size() ? refresh_cursor_ + 1 : 0;
    if (!ready_.contains(refresh_cursor_)) continue;
    if (step_ - ledger_.request(refresh_cursor_).last_refresh < options_.score_update_interval)
      continue;
    refresh(refresh_cursor_);
    ++done;
  }
}

void PolicyCore::track_running(const StepView& view) {
  for (std::size_t i = 0; i < view.running.size(); ++i) {
    const RequestHandle handle = view.running[i];
    if (!ledger_.has_request(handle)) continue;
    Request& request = ledger_.request(handle);
    if (request.state != RequestState::kRunning) continue;
    ledger_.set_context(handle, view.context[i]);
    if (view.context[i] >= request.peak_tokens) {  // outlived its prediction: ask again
      ledger_.set_footprint(handle, peak_of(request), request.shared_tokens);
    }
  }
}

// Crowded: by what they cost to restore per token-second they would free. Calm: the longest paused
// first, as vLLM's own cache would evict them. Sessions that have already returned come last.
std::vector<SessionHandle> PolicyCore::release_order(Seconds now, Tokens tokens) {
  struct Candidate {
    bool returned;
    double order;
    SessionHandle handle;
  };
  std::vector<Candidate> candidates;
  candidates.reserve(ledger_.holders().size());
  for (const SessionHandle handle : ledger_.holders()) {
    const Session& session = ledger_.session(handle);
    const bool returned = session.state != SessionState::kPaused;
    const PauseContext pause = pause_context(now, session);
    const Seconds freed =
        pause.p_return * pause.expected_remaining + (1.0 - pause.p_return) * predictor_.patience();
    const double price = waste_of(pause, cost_).discard /
                         (static_cast<double>(session.held_tokens) * std::max(freed, 1e-6));
    const double order = returned ? -session.arrival : calm() ? session.paused_at : price;
    candidates.push_back({returned, order, handle});
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.returned, a.order, a.handle) < std::tie(b.returned, b.order, b.handle);
  });
  std::vector<SessionHandle> order;
  Tokens covered = 0;
  for (const Candidate& candidate : candidates) {
    if (covered >= tokens) break;
    order.push_back(candidate.handle);
    covered += ledger_.session(candidate.handle).held_tokens;
  }
  return order;
}

// Lets kept pauses go until `missing` tokens are free; lets none go if they do not hold that much.
// The head of the queue never gives way, nor does anyone who was let in earlier in the same step.
bool PolicyCore::make_room(Seconds now, Tokens missing, Reason reason, StepPlan& plan) {
  const SessionHandle head = ledger_.request(ready_.top()).session;
  std::vector<SessionHandle> going;
  Tokens found = 0;
  for (const SessionHandle handle : release_order(now, ledger_.held_tokens())) {
    if (found >= missing) break;
    if (handle == head || planned_this_step(handle)) continue;
    going.push_back(handle);
    found += ledger_.session(handle).held_tokens;
  }
  if (found < missing) return false;
  for (const SessionHandle handle : going) {
    plan.release.push_back(handle);
    let_go(now, handle, reason);
  }
  return true;
}

bool PolicyCore::planned_this_step(SessionHandle handle) const {
  const RequestHandle latest = ledger_.session(handle).latest;
  return ledger_.has_request(latest) && ledger_.request(latest).session == handle &&
         ledger_.request(latest).planned == step_;
}

// Whether room is asked for the projected peak of everyone, so that nobody who was let in has to be
// preempted. Only for newcomers on a crowded engine: a session that has begun comes in as soon as
// its prompt fits, as in vLLM, since its wait costs more than a rare preemption.
bool PolicyCore::plans_for_peak(const Request& request) const {
  return !calm() && !has_begun(request);
}

Tokens PolicyCore::asked_by(const Request& request) const {
  if (plans_for_peak(request)) return request.need();
  const Tokens prompt = whole_blocks(static_cast<double>(request.prompt_tokens + 1));
  return std::max<Tokens>(prompt - request.shared_tokens, 0);
}

Tokens PolicyCore::limit_for(const Request& request) const {
  return plans_for_peak(request) && !request.overdue ? budget_.tokens() : engine_.capacity_tokens;
}

// Whether kept pauses give way to the head of the queue. Always on a calm engine, where the wait
// would cost more than the recomputation. On a crowded one to turns of sessions that have begun,
// which are here while a pause may last, to the overdue, and before the engine starves; never to
// newcomers.
bool PolicyCore::pauses_yield_to(const Request& head, Tokens working) const {
  const double enough = kWorkingShare * static_cast<double>(engine_.capacity_tokens);
  return calm() || head.overdue || head.facts.turn > 0 || static_cast<double>(working) < enough;
}

void PolicyCore::admit(const StepView& view, StepPlan& plan) {
  Tokens promised = 0;  // to those admitted in this step
  Tokens step_tokens = view.step_tokens;
  std::vector<std::pair<RequestHandle, ReadyKey>> taken;
  while (!ready_.empty() && static_cast<std::int64_t>(taken.size()) < view.slots &&
         step_tokens > 0) {
    const RequestHandle head = ready_.top();
    Request& request = ledger_.request(head);
    const Tokens growth = plans_for_peak(request) ? ledger_.running_growth() : 0;
    const Tokens asked = asked_by(request);
    const Tokens used = engine_.capacity_tokens - view.free_tokens - freeing_;
    const Tokens missing = used + growth + promised + asked - limit_for(request);
    if (missing > 0) {
      const bool idle = view.running.empty() && taken.empty();
      const Tokens working = ledger_.running_context() + ledger_.running_growth() + promised;
      const Reason reason = request.overdue ? Reason::kOverdue : Reason::kRoomForWaiting;
      const bool yields = idle || pauses_yield_to(request, working);
      if (!(yields && make_room(view.now, missing, reason, plan)) && !idle) break;
    }
    // One that the engine just skipped gets another try, but keeps no room from those behind it.
    if (!std::exchange(request.skipped, false)) {
      promised += asked;
      step_tokens -= std::max<Tokens>(request.prompt_tokens - request.shared_tokens, 1);
    }
    request.planned = step_;
    plan.admit.push_back(head);
    taken.emplace_back(head, ready_.key_of(head));
    ready_.remove(head);  // making room may have put another one first
  }
  for (const auto& [handle, key] : taken)
    ready_.push(handle, key);  // waiting until admitted() says so
}

// Pressure now, and its average over the last seconds: a burst that is gone at once is no crowd.
void PolicyCore::update_pressure(const StepView& view) {
  const Tokens used = engine_.capacity_tokens - view.free_tokens - std::exchange(freeing_, 0);
  const double demand =
      static_cast<double>(used + ledger_.running_growth() + ledger_.waiting_need());
  pressure_ = std::clamp(demand / static_cast<double>(engine_.capacity_tokens) - 1.0, 0.0, 1.0);
  const Seconds passed = std::clamp(view.now - last_step_at_, 0.0, kCrowdSeconds);
  last_step_at_ = view.now;
  crowding_ += (1.0 - std::exp(-passed / kCrowdSeconds)) * (pressure_ - crowding_);
}

// What preempting a running request loses per token-second it frees. Higher: keep it longer.
double PolicyCore::loss_of(const Request& request) const {
  PauseContext loss;
  loss.context_tokens = std::max<Tokens>(request.context_tokens, 1);
  loss.other_tokens = ledger_.running_context() - request.context_tokens;
  loss.chunk = engine_.step_tokens;
  const double remaining = std::max(1.0, static_cast<double>(request.growth())) * decode_step_;
  return waste_of(loss, cost_).discard / (static_cast<double>(loss.context_tokens) * remaining);
}

// Best first; the last is the first victim. Overdue and once preempted requests are preempted last.
// The present order stays unless a loss is larger than its predecessor's by the hysteresis.
void PolicyCore::order_running(const StepView& view, StepPlan& plan) const {
  const auto count = static_cast<Tokens>(view.running.size());
  if (count < 2 || view.free_tokens >= count * engine_.block_tokens) return;
  struct Candidate {
    RequestHandle handle;
    bool shielded;
    double loss;
  };
  std::vector<Candidate> order;
  order.reserve(view.running.size());
  for (const RequestHandle handle : view.running) {
    if (!ledger_.has_request(handle)) return;  // somebody the core does not know runs too
    const Request& request = ledger_.request(handle);
    order.push_back({handle, request.overdue || request.preempted, loss_of(request)});
  }
  const auto goes_before = [this](const Candidate& a, const Candidate& b) {
    if (a.shielded != b.shielded) return a.shielded;
    return a.loss > b.loss * (1.0 + options_.victim_hysteresis);
  };
  for (std::size_t i = 1; i < order.size(); ++i) {  // insertion: nearly sorted from the last time
    for (std::size_t j = i; j > 0 && goes_before(order[j], order[j - 1]); --j) {
      std::swap(order[j], order[j - 1]);
    }
  }
  for (const Candidate& candidate : order) plan.run_order.push_back(candidate.handle);
}

StepPlan PolicyCore::begin_step(const StepView& view) {
  ++step_;
  ++counters_.steps;
  StepPlan plan;
  plan.release = std::exchange(to_release_, {});
  track_running(view);
  settle_pauses(view.now, plan);
  plan.release.insert(plan.release.end(), to_release_.begin(), to_release_.end());
  to_release_.clear();
  mark_overdue(view.now);
  refresh_some();
  admit(view, plan);
  update_pressure(view);
  order_running(view, plan);
  for (const SessionHandle handle : std::exchange(to_forget_, {})) {
    if (!ledger_.has_session(handle)) plan.forget.push_back(handle);
  }
  std::sort(plan.forget.begin(), plan.forget.end());
  plan.forget.erase(std::unique(plan.forget.begin(), plan.forget.end()), plan.forget.end());
  return plan;
}

}  // namespace lamps
