// SPDX-License-Identifier: Apache-2.0
// What the policy core decides once per engine step.
#include <algorithm>
#include <cmath>
#include <utility>

#include "lamps/policy.h"

namespace lamps {
namespace {

constexpr std::size_t kMostRefreshes = 4;   // ranks refreshed per step: keeps a step O(log n)
constexpr std::size_t kMostScanned = 16;    // table entries looked at to find them
constexpr std::size_t kMostDecisions = 32;  // due pauses settled per step
constexpr Seconds kCrowdSeconds = 2.0;      // time the pressure is averaged over
constexpr double kGrowth = 0.5;             // next re-decision when the pause has grown by half

}  // namespace

// A session that has not returned by then is taken as ended.
Seconds PolicyCore::forgotten_at(const Session& session) const {
  return session.paused_at + std::min(predictor_.patience(), options_.forget_seconds);
}

// The silence of a paused session is evidence for all of its kind.
void PolicyCore::count_silence(SessionHandle handle, Seconds elapsed) {
  Session& session = ledger_.session(handle);
  session.silence = predictor_.observe_silence(session.call_facts, elapsed, session.silence);
}

// `again`: as in Verdict. Where there is no KV to decide about, silence is counted whenever it has
// doubled, and the end is waited for.
void PolicyCore::schedule_decision(Seconds now, SessionHandle handle, Seconds again) {
  const Session& session = ledger_.session(handle);
  const Seconds elapsed = std::max(now - session.paused_at, 0.0);
  const bool nothing = session.held_tokens == 0 && session.copy == Copy::kNone;
  if (nothing || again < 0.0) {
    again = std::max(options_.redecide_seconds, (nothing ? 1.0 : kGrowth) * elapsed);
  }
  const Seconds next = std::min(now + again, forgotten_at(session));
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
  const bool lost = session.copy != Copy::kBoth;
  if (lost && !by_choice) {
    session.lost_kv = true;
    ++counters_.released;
  }
  record(now, handle, lost ? Handling::kDiscard : Handling::kSwap, reason);
  if (reason != Reason::kRoomForRunning) freeing_ += session.held_tokens;
  lost ? lose(handle) : leave_to_host(handle);
  if (session.state == SessionState::kPaused) schedule_decision(now, handle, Verdict::kUsual);
}

void PolicyCore::end_session(Seconds now, SessionHandle handle, Reason reason) {
  keep_untold(handle);
  if (ledger_.session(handle).held_tokens > 0) to_release_.push_back(handle);
  drop_host(handle);
  let_go(now, handle, reason);
  if (pause_timers_.contains(handle)) pause_timers_.remove(handle);
  rules_->on_end(handle);
  ledger_.erase(handle);
  to_forget_.push_back(handle);
  ++counters_.forgotten;
}

// Host memory that is full never holds anything up: then the KV is dropped. A copy that is under
// way is waited for, unless the session's turn waits already.
void PolicyCore::apply(Seconds now, SessionHandle handle, Handling handling, Reason reason,
                       StepPlan& plan) {
  const Session& session = ledger_.session(handle);
  const bool leaves = session.copy == Copy::kCopying
                          ? session.state == SessionState::kPaused
                          : session.copy == Copy::kNone && handling == Handling::kSwap;
  if (leaves && swap_out(now, handle, reason, plan)) return;
  plan.release.push_back(handle);
  let_go(now, handle, reason);
}

void PolicyCore::decide_pause(Seconds now, SessionHandle handle, StepPlan& plan) {
  const Session& session = ledger_.session(handle);
  if (session.copy == Copy::kHost) return await_return(now, handle);
  Seconds again = Verdict::kUsual;
  if (session.held_tokens > 0) {
    const Verdict verdict = keeps() ? rules_->decide(now, handle) : Verdict{};
    if (verdict.handling != Handling::kPreserve) {
      return apply(now, handle, verdict.handling, Reason::kLeastWaste, plan);
    }
    if (now <= session.paused_at) record(now, handle, Handling::kPreserve, Reason::kPreserved);
    again = verdict.again;
  }
  schedule_decision(now, handle, again);
}

void PolicyCore::settle_pauses(Seconds now, StepPlan& plan) {
  for (std::size_t i = 0; i < kMostDecisions && !pause_timers_.empty(); ++i) {
    const SessionHandle handle = pause_timers_.top();
    if (pause_timers_.key_of(handle).deadline > now) return;
    const Session& session = ledger_.session(handle);
    const bool forgotten = now >= forgotten_at(session);
    count_silence(handle, forgotten ? 0.0 : now - session.paused_at);
    if (forgotten) {
      predictor_.observe_no_return(session.call_facts);
      end_session(now, handle, Reason::kExpired);
    } else {
      decide_pause(now, handle, plan);
    }
  }
}

void PolicyCore::overrule_pauses(Seconds now, StepPlan& plan) {
  for (const Overruled& each : rules_->overruled(now)) {
    apply(now, each.session, each.handling, Reason::kLeastWaste, plan);
  }
}

void PolicyCore::mark_overdue(Seconds now) {
  const Seconds bound = waiting_bound();
  for (RequestHandle oldest = waits_.oldest(); oldest != kNoHandle; oldest = waits_.oldest()) {
    if (step_ - waits_.step(oldest) < options_.starvation_threshold) return;
    if (now - waits_.since(oldest) < bound) return;
    waits_.remove(oldest);
    Request& request = ledger_.request(oldest);
    request.overdue = true;
    ++counters_.overdue;
    ready_.rekey(oldest, rules_->key_of(request));
  }
}

void PolicyCore::refresh_all() {
  if (step_ % options_.score_update_interval != 0) return;
  for (RequestHandle handle = 0; handle < ledger_.request_table_size(); ++handle) {
    if (ready_.contains(handle)) refresh(handle);
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
      ledger_.set_footprint(handle, scene_.peak_of(request), request.shared_tokens);
    }
  }
}

std::vector<SessionHandle> PolicyCore::release_order(Seconds now, Tokens tokens) {
  std::vector<SessionHandle> order = rules_->release_order(now);
  std::size_t taken = 0;
  for (Tokens covered = 0; taken < order.size() && covered < tokens; ++taken) {
    covered += ledger_.session(order[taken]).held_tokens;
  }
  order.resize(taken);
  return order;
}

// Lets kept pauses go until `missing` tokens are free; lets none go if they do not hold that much.
// The head of the queue never gives way, nor does anyone who was let in earlier in the same step.
// Those that had better be swapped are, and the head waits for the copies that it needs.
bool PolicyCore::make_room(Seconds now, Tokens missing, Reason reason, StepPlan& plan) {
  const Request& head = ledger_.request(ready_.top());
  std::vector<SessionHandle> going;
  Tokens found = ledger_.leaving_tokens();
  for (const SessionHandle handle : release_order(now, ledger_.held_tokens())) {
    if (found >= missing) break;
    const Session& session = ledger_.session(handle);
    if (handle == head.session || session.planned == step_) continue;
    if (!rules_->yields_to(session, head)) continue;
    going.push_back(handle);
    found += session.held_tokens;
  }
  if (found < missing) return false;
  for (const SessionHandle handle : going) {
    const bool swap = swap_beats_drop(now, handle);
    apply(now, handle, swap ? Handling::kSwap : Handling::kDiscard, reason, plan);
  }
  return missing <= found - ledger_.leaving_tokens();
}

// Ungated: whoever may enter, in order, as many as may start. Those that the engine has just
// skipped come on top: they may be skipped again, and then hold nobody back.
void PolicyCore::offer(const StepView& view, StepPlan& plan) {
  const std::size_t again = std::exchange(skipped_, 0);
  if (view.slots <= 0) return;
  const auto slots = std::min(static_cast<std::size_t>(view.slots), ledger_.waiting());
  for (const RequestHandle handle : ready_.first(slots + again)) {
    if (ready_.key_of(handle).service_class == kClosedClass) return;
    Request& request = ledger_.request(handle);
    request.skipped = false;
    ledger_.session(request.session).planned = step_;
    plan.admit.push_back(handle);
  }
}

void PolicyCore::admit(const StepView& view, StepPlan& plan) {
  Tokens promised = 0;  // to those admitted in this step
  Tokens step_tokens = view.step_tokens;
  std::vector<std::pair<RequestHandle, ReadyKey>> taken;
  while (!ready_.empty() && static_cast<std::int64_t>(taken.size()) < view.slots &&
         step_tokens > 0) {
    const RequestHandle head = ready_.top();
    Request& request = ledger_.request(head);
    const Tokens growth = rules_->plans_for_peak(request) ? ledger_.running_growth() : 0;
    const Tokens asked = rules_->asked_by(request);
    const Tokens used = engine_.capacity_tokens - view.free_tokens - freeing_;
    const Tokens missing = used + growth + promised + asked - rules_->limit_for(request);
    if (missing > 0) {
      const bool idle = view.running.empty() && taken.empty();
      const Tokens working = ledger_.running_context() + ledger_.running_growth() + promised;
      const Reason reason = request.overdue ? Reason::kOverdue : Reason::kRoomForWaiting;
      const bool yields = idle || rules_->pauses_yield_to(request, working);
      if (!(yields && make_room(view.now, missing, reason, plan)) && !idle) break;
    }
    // One that the engine just skipped gets another try, but keeps no room from those behind it.
    if (!std::exchange(request.skipped, false)) {
      promised += asked;
      const Tokens found = request.shared_tokens + request.host_tokens;
      step_tokens -= std::max<Tokens>(request.prompt_tokens - found, 1);
    }
    ledger_.session(request.session).planned = step_;
    plan.admit.push_back(head);
    taken.emplace_back(head, ready_.key_of(head));
    ready_.remove(head);  // making room may have put another one first
  }
  for (const auto& [handle, key] : taken)
    ready_.push(handle, key);  // waiting until admitted() says so
}

void PolicyCore::fade_recomputed(Seconds now) {
  const Seconds passed = std::max(now - last_step_at_, 0.0);
  load_.recompute_share *= std::exp(-passed / refill_seconds());
}

// Pressure now, and its average over the last seconds: a burst that is gone at once is no crowd.
void PolicyCore::update_pressure(const StepView& view) {
  const Tokens used = engine_.capacity_tokens - view.free_tokens - std::exchange(freeing_, 0);
  const double demand =
      static_cast<double>(used + ledger_.running_growth() + ledger_.waiting_need());
  load_.pressure =
      std::clamp(demand / static_cast<double>(engine_.capacity_tokens) - 1.0, 0.0, 1.0);
  const Seconds passed = std::clamp(view.now - last_step_at_, 0.0, kCrowdSeconds);
  last_step_at_ = view.now;
  load_.crowding += (1.0 - std::exp(-passed / kCrowdSeconds)) * (load_.pressure - load_.crowding);
}

void PolicyCore::order_running(const StepView& view, StepPlan& plan) const {
  const auto count = static_cast<Tokens>(view.running.size());
  if (count < 2 || view.free_tokens >= count * engine_.block_tokens) return;
  for (const RequestHandle handle : view.running) {
    if (!ledger_.has_request(handle)) return;  // somebody the core does not know runs too
  }
  if (!rules_->orders_running()) return;
  plan.run_order.assign(view.running.begin(), view.running.end());
  rules_->order_running(plan.run_order);
}

void PolicyCore::rekey_waiting(SessionHandle session) {
  for (RequestHandle handle = 0; handle < ledger_.request_table_size(); ++handle) {
    if (!ready_.contains(handle)) continue;
    const Request& request = ledger_.request(handle);
    if (request.session == session) ready_.rekey(handle, rules_->key_of(request));
  }
}

StepPlan PolicyCore::begin_step(const StepView& view) {
  ++step_;
  ++counters_.steps;
  StepPlan plan;
  plan.release = std::exchange(to_release_, {});
  fade_recomputed(view.now);
  track_running(view);
  settle_pauses(view.now, plan);
  overrule_pauses(view.now, plan);
  plan.release.insert(plan.release.end(), to_release_.begin(), to_release_.end());
  to_release_.clear();
  plan.swap_out.insert(plan.swap_out.end(), to_swap_out_.begin(), to_swap_out_.end());
  to_swap_out_.clear();
  for (const SessionHandle session : rules_->on_step(view.now, view.running)) {
    rekey_waiting(session);
  }
  mark_overdue(view.now);
  if (rules_->refresh() == Refresh::kSome) refresh_some();
  if (rules_->refresh() == Refresh::kAll) refresh_all();
  rules_->gated() ? admit(view, plan) : offer(view, plan);
  prefetch(view, plan);
  copy_ahead(view.now, plan);
  plan.drop_host = std::exchange(to_drop_host_, {});
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
