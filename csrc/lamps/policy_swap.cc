// SPDX-License-Identifier: Apache-2.0
// What the policy core does where there is a host tier.
#include <algorithm>
#include <utility>

#include "lamps/errors.h"
#include "lamps/policy.h"

namespace lamps {
namespace {

// A load is worth its memory when the session returns within so many times the load's duration:
// memory that is free now is taken to be wanted at a twentieth of its price.
constexpr double kPrefetchLead = 20.0;

}  // namespace

void PolicyCore::swapped_out(Seconds now, SessionHandle handle) {
  if (!ledger_.has_session(handle)) return;
  const Session& session = ledger_.session(handle);
  const bool kept = session.copy == Copy::kCopying;
  if (!kept && session.copy != Copy::kOut) return;
  ledger_.swapped_out(handle);
  on_host_.add(handle, now, step_);
  if (!kept) return move_footprint(handle, 0, session.host_tokens);
  // Letting it go costs less than when its pause was last looked at.
  if (session.state == SessionState::kPaused) schedule_decision(now, handle, 0.0);
}

void PolicyCore::loaded(Seconds now, SessionHandle handle) {
  if (!ledger_.has_session(handle) || ledger_.session(handle).copy != Copy::kIn) return;
  ledger_.loaded(handle);
  const Session& session = ledger_.session(handle);
  if (session.state == SessionState::kPaused) schedule_decision(now, handle, Verdict::kUsual);
}

void PolicyCore::host_lost(SessionHandle handle) {
  if (!ledger_.has_session(handle) || ledger_.session(handle).copy == Copy::kNone) return;
  ledger_.session(handle).held_tokens > 0 ? forget_host(handle) : released(handle);
}

void PolicyCore::forget_host(SessionHandle handle) {
  if (on_host_.contains(handle)) on_host_.remove(handle);
  ledger_.drop_host(handle);
}

void PolicyCore::drop_host(SessionHandle handle) {
  if (ledger_.session(handle).copy == Copy::kNone) return;
  forget_host(handle);
  to_drop_host_.push_back(handle);
}

// Kept KV is let go before there is a copy of it.
void PolicyCore::lose(SessionHandle handle) {
  drop_host(handle);
  released(handle);
}

// Kept KV is let go, and its copy is what the session's turn will find.
void PolicyCore::leave_to_host(SessionHandle handle) {
  ledger_.release(handle);
  move_footprint(handle, 0, ledger_.session(handle).host_tokens);
}

// What has been on the host for longest goes first: it is least likely to be asked for. Copies
// under way and turns that wait keep theirs.
void PolicyCore::make_host_room(Tokens tokens) {
  SessionHandle next = on_host_.oldest();
  while (next != kNoHandle && ledger_.host_tokens() + tokens > engine_.host_tokens) {
    const SessionHandle handle = next;
    next = on_host_.after(handle);
    if (ledger_.session(handle).idle_host_tokens() > 0) drop_host(handle);
  }
}

bool PolicyCore::swap_out(Seconds now, SessionHandle handle, Reason reason, StepPlan& plan) {
  const Session& session = ledger_.session(handle);
  if (session.copy == Copy::kNone) {
    if (!scene_.host_has_room(session.held_tokens)) return false;
    make_host_room(session.held_tokens);
  }
  record(now, handle, Handling::kSwap, reason);
  take_off_copy_list(handle);
  ledger_.swap_out(handle);
  plan.swap_out.push_back(handle);
  ++counters_.swapped;
  schedule_decision(now, handle, Verdict::kUsual);
  return true;
}

// Takes back a decision to swap that the caller has not been told yet.
void PolicyCore::keep_untold(SessionHandle handle) {
  if (std::erase(to_swap_out_, handle) > 0) ledger_.keep_after_all(handle);
}

// Only for pauses: KV whose turn waits already would have to come back at once.
bool PolicyCore::swap_beats_drop(Seconds now, SessionHandle handle) const {
  const Session& session = ledger_.session(handle);
  if (session.state != SessionState::kPaused) return false;
  const Waste waste = waste_of(scene_.pause_context(now, session), cost_);
  return waste.swap < waste.discard;
}

// Its KV is on the host: it is fetched back when the session is about to return and there is room.
void PolicyCore::await_return(Seconds now, SessionHandle handle) {
  const Session& session = ledger_.session(handle);
  const PauseContext pause = scene_.pause_context(now, session);
  const Seconds lead = kPrefetchLead * pause.p_return * cost_.swap_time(session.host_tokens);
  Seconds again = Verdict::kUsual;
  if (!rules_->prefetches()) {
    again = kForever;
  } else if (pause.expected_remaining <= lead) {
    awaited_.push_back(handle);
    again = options_.redecide_seconds;
  } else if (session.call_hint > now - session.paused_at) {  // known, not guessed
    again = pause.expected_remaining - lead;
  }
  schedule_decision(now, handle, again);
}

void PolicyCore::prefetch(const StepView& view, StepPlan& plan) {
  Tokens room = view.free_tokens - ledger_.running_growth() - ledger_.waiting_need();
  for (const SessionHandle handle : std::exchange(awaited_, {})) {
    if (!ledger_.has_session(handle) || ledger_.session(handle).copy != Copy::kHost) continue;
    const Tokens tokens = ledger_.session(handle).host_tokens;
    if (tokens > room) continue;
    room -= tokens;
    record(view.now, handle, Handling::kPreserve, Reason::kPrefetched);
    ledger_.load(handle);
    plan.prefetch.push_back(handle);
    ++counters_.prefetched;
  }
}

// While nothing else is on its way out, the kept KV of the longest pause is copied. One copy at a
// time, and only where there is room and a load would cost less than computing it again.
void PolicyCore::copy_ahead(Seconds now, StepPlan& plan) {
  const SessionHandle handle = uncopied_.oldest();
  if (handle == kNoHandle || ledger_.leaving_tokens() + ledger_.copying_tokens() > 0) return;
  const Session& session = ledger_.session(handle);
  if (!scene_.host_has_room(session.held_tokens)) return;
  const Loss loss = loss_of(scene_.pause_context(now, session), cost_);
  if (loss.swap_out == kForever || loss.swap_in >= loss.drop) return;
  make_host_room(session.held_tokens);
  take_off_copy_list(handle);
  ledger_.copy_ahead(handle);
  plan.copy_ahead.push_back(handle);
  ++counters_.copied_ahead;
}

void PolicyCore::take_off_copy_list(SessionHandle handle) {
  if (uncopied_.contains(handle)) uncopied_.remove(handle);
}

void PolicyCore::check_copy_list() const {
  uncopied_.check_invariants();
  for (SessionHandle each = uncopied_.oldest(); each != kNoHandle; each = uncopied_.after(each)) {
    const Session& session = ledger_.session(each);
    if (session.state != SessionState::kPaused || session.held_tokens == 0 ||
        session.copy != Copy::kNone) {
      throw InvariantViolation("policy: a session that keeps nothing to copy is listed");
    }
  }
}

}  // namespace lamps
