// SPDX-License-Identifier: Apache-2.0
#include "lamps/policies/lamps.h"

#include <algorithm>
#include <utility>

#include "lamps/hold.h"

namespace lamps {
namespace {

constexpr double kWorkingShare = 0.25;  // below this share of the pool at work, while someone
                                        // waits, kept pauses give way
constexpr double kCalm = 0.15;          // averaged pressure below which the engine is calm
constexpr double kDrains = 4.0;  // backlogs after which nobody is overtaken by a newcomer any more
constexpr Seconds kShortestHold = 1e-3;
constexpr double kThrash = 0.5;  // share of the engine's time spent on recomputation from which
                                 // on no session begins
constexpr double kLikely = 0.5;
constexpr std::uint8_t kNewcomerClass = kRestClass + 1;
constexpr double kUsualWait = 0.9;  // quantile of the waits that counts as usual
constexpr double kOutlier = 2.0;    // ... and how much longer than that nobody should wait

bool has_begun(const Request& request) { return request.facts.turn > 0 || request.preempted; }

}  // namespace

bool LampsRules::calm() const { return scene_.load.crowding < kCalm; }

bool LampsRules::is_newcomer(const Request& request) const {
  return !has_begun(request) && !scene_.ledger.session(request.session).branch;
}

bool LampsRules::comes_back(const Request& request) const {
  return !request.final_hint && scene_.predictor.p_return(request.facts, 0.0) >= kLikely;
}

// Whether it goes before everybody and takes what others keep. Only a turn of a session that has
// begun: where more sessions want in than the memory holds, all newcomers are overdue, and letting
// them in at once would make everybody lose and recompute what he has.
bool LampsRules::pushes_in(const Request& request) const {
  return request.overdue && !is_newcomer(request);
}

// Whether nobody begins: more sessions have begun than the memory holds, and what they have keeps
// being computed again. The next newcomer would add to that for as long as it lives.
bool LampsRules::thrashes() const { return !calm() && scene_.load.recompute_share > kThrash; }

TokenSeconds LampsRules::rank_of(const Request& request) const {
  Outlook outlook = scene_.outlook_of(request);
  if (!request.final_hint) {
    // A short call is preserved, a long one is not: the wastes decide when it comes.
    PauseContext pause;
    pause.context_tokens = request.prompt_tokens;
    pause.other_tokens = scene_.ledger.running_context();
    pause.expected_remaining = outlook.call_seconds;
    pause.p_return = outlook.p_return;
    pause.pressure = scene_.load.pressure;
    pause.loss_share = scene_.load.loss_share;
    pause.chunk = scene_.engine.step_tokens;
    pause.host_memory_free = scene_.host_has_room(pause.context_tokens);
    outlook.handling = least_waste(waste_of(pause, scene_.cost));
  }
  return memory_over_time(outlook, scene_.cost, scene_.load.decode_step, scene_.engine.step_tokens);
}

Seconds LampsRules::starvation_seconds() const {
  return std::max(scene_.options.starvation_seconds, kOutlier * waits_.quantile(kUsualWait));
}

void LampsRules::on_admission(Seconds now, const Request& request) {
  if (!has_begun(request)) backlog_.admitted(now, scene_.ledger.waiting());
  // Newcomers wait for their rank, which is no reason for others to wait longer.
  const Session& session = scene_.ledger.session(request.session);
  if (request.facts.turn == 0 || request.preempted || session.resident_tokens() > 0) return;
  // One whose KV is on the host costs others little when it is let in: it needs no longer bound.
  waits_.observe(session.copy == Copy::kNone ? now - request.arrived : 0.0);
}

ReadyKey LampsRules::key_of(const Request& request) const {
  const Session& session = scene_.ledger.session(request.session);
  if (pushes_in(request)) return {kOverdueClass, session.arrival, request.sequence};
  // Only a session that has not begun is made to wait for its rank, and only on a crowded engine:
  // one that was served before keeps the place its age gives it, even if its KV was lost meanwhile.
  Seconds delay = 0.0;
  if (request.facts.turn == 0 && !request.overdue && !calm()) {
    delay = scene_.options.rank_weight * rank_of(request) /
            static_cast<double>(scene_.engine.capacity_tokens);
    delay = std::min({delay, scene_.options.rank_horizon, kDrains * backlog_.drain()});
  }
  const bool resident = request.preempted || session.resident_tokens() > 0;
  const std::uint8_t rest = is_newcomer(request) ? kNewcomerClass : kRestClass;
  return {resident ? kResidentClass : rest, session.arrival + delay, request.sequence};
}

// Whether room is asked for the projected peak of everyone, so that nobody who was let in has to be
// preempted. Only for newcomers on a crowded engine: a session that has begun comes in as soon as
// its prompt fits, as in vLLM, since its wait costs more than a rare preemption. So does one that
// is likely to end with this turn: it leaves nothing behind that room would have to be kept for.
bool LampsRules::plans_for_peak(const Request& request) const {
  return !calm() && !has_begun(request) && comes_back(request);
}

Tokens LampsRules::asked_by(const Request& request) const {
  if (plans_for_peak(request)) return request.need();
  const Tokens prompt = scene_.whole_blocks(static_cast<double>(request.prompt_tokens + 1));
  return std::max<Tokens>(prompt - request.shared_tokens, 0);
}

Tokens LampsRules::limit_for(const Request& request) const {
  if (is_newcomer(request) && thrashes()) return kNoRoom;
  return plans_for_peak(request) && !pushes_in(request) ? scene_.budget.tokens()
                                                        : scene_.engine.capacity_tokens;
}

// Whether kept pauses give way to the head of the queue. Always on a calm engine, where the wait
// would cost more than the recomputation. On a crowded one to turns of sessions that have begun,
// which are here while a pause may last, to the overdue of them, and before the engine starves;
// never to newcomers.
bool LampsRules::pauses_yield_to(const Request& head, Tokens working) const {
  const double enough = kWorkingShare * static_cast<double>(scene_.engine.capacity_tokens);
  return calm() || pushes_in(head) || head.facts.turn > 0 || static_cast<double>(working) < enough;
}

// On a crowded engine an older session's KV stays: it goes before the head whenever it returns, so
// that taking its place would make the two take turns at recomputing. An overdue head takes it.
bool LampsRules::yields_to(const Session& pause, const Request& head) const {
  return calm() || pushes_in(head) || pause.arrival >= scene_.ledger.session(head.session).arrival;
}

Verdict LampsRules::decide(Seconds now, SessionHandle handle) const {
  const Session& session = scene_.ledger.session(handle);
  const Seconds elapsed = std::max(now - session.paused_at, 0.0);
  const PauseContext pause = scene_.pause_context(now, session);
  const Mixture calls = scene_.predictor.calls(session.call_facts);
  const auto still_out = [&](Seconds later) {
    if (session.call_hint > elapsed) return elapsed + later < session.call_hint ? 1.0 : 0.0;
    return calls.still_out(elapsed, later);
  };
  const double holding = static_cast<double>(pause.context_tokens) * pause.pressure;
  const Hold hold = best_hold(holding, loss_of(pause, scene_.cost), pause.p_return, still_out,
                              kShortestHold, std::max(scene_.predictor.patience(), 1.0));
  return {hold.until <= 0.0 ? hold.then : Handling::kPreserve, Verdict::kUsual};
}

// Crowded: by what they cost to restore per token-second they would free. Calm: the longest paused
// first, as vLLM's own cache would evict them.
std::vector<SessionHandle> LampsRules::release_order(Seconds now) const {
  return holders_by([&](const Session& session) {
    if (calm()) return session.paused_at;
    const PauseContext pause = scene_.pause_context(now, session);
    const Seconds freed = pause.p_return * pause.expected_remaining +
                          (1.0 - pause.p_return) * scene_.predictor.patience();
    return waste_of(pause, scene_.cost).discard /
           (static_cast<double>(session.held_tokens) * std::max(freed, 1e-6));
  });
}

// What preempting a running request loses per token-second it frees. Higher: keep it longer.
double LampsRules::preemption_loss(const Request& request) const {
  PauseContext loss;
  loss.context_tokens = std::max<Tokens>(request.context_tokens, 1);
  loss.other_tokens = scene_.ledger.running_context() - request.context_tokens;
  loss.chunk = scene_.engine.step_tokens;
  const double remaining =
      std::max(1.0, static_cast<double>(request.growth())) * scene_.load.decode_step;
  return waste_of(loss, scene_.cost).discard /
         (static_cast<double>(loss.context_tokens) * remaining);
}

// Best first; the last is the first victim. Overdue and once preempted requests are preempted last.
// The present order stays unless a loss is larger than its predecessor's by the hysteresis.
void LampsRules::order_running(std::vector<RequestHandle>& running) const {
  struct Candidate {
    RequestHandle handle;
    bool shielded;
    double loss;
  };
  std::vector<Candidate> order;
  order.reserve(running.size());
  for (const RequestHandle handle : running) {
    const Request& request = scene_.ledger.request(handle);
    order.push_back({handle, request.overdue || request.preempted, preemption_loss(request)});
  }
  const auto goes_before = [this](const Candidate& a, const Candidate& b) {
    if (a.shielded != b.shielded) return a.shielded;
    return a.loss > b.loss * (1.0 + scene_.options.victim_hysteresis);
  };
  for (std::size_t i = 1; i < order.size(); ++i) {  // insertion: nearly sorted from the last time
    for (std::size_t j = i; j > 0 && goes_before(order[j], order[j - 1]); --j) {
      std::swap(order[j], order[j - 1]);
    }
  }
  for (std::size_t i = 0; i < order.size(); ++i) running[i] = order[i].handle;
}

}  // namespace lamps
