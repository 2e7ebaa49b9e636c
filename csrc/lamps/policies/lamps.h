// SPDX-License-Identifier: Apache-2.0
// `lamps`, the default; docs/design.md explains it.
//
// Order of waiting requests, lower first:
//   overdue (oldest session first) < returning turns whose KV is here < other turns of sessions
//   that have begun < newcomers; inside the last three by virtual deadline = session arrival +
//   delay, where delay = min(rank_weight * R / capacity, rank_horizon, four backlogs), R =
//   predicted memory-over-time, for the first turn of a session on a crowded engine, else 0. The
//   backlog is how long the queue takes to get in: where that is seconds, as on a fast engine, a
//   horizon of half a minute would let every newcomer overtake the large.
// Waiting bound. A request that has waited `starvation_threshold` steps, `starvation_seconds`, and
// twice the 90th percentile of what returning turns without KV had waited lately is overdue: where
// all of those wait for minutes, a fixed number of seconds would make all of them overdue (those
// whose KV is on the host count as not waiting: letting them in costs a load). An overdue turn of a
// session that has begun yields only to such turns of sessions that arrived before its own: a
// finite set that no later arrival can join, but a child of one of them, which counts as its
// parent's work. It is admitted as soon as running turns and kept pauses leave room for it, because
// nothing younger is let in before it, and kept pauses give way to it. So its wait is bounded by
// the bound itself, plus the turns that older sessions still have to serve, plus one drain of what
// is running. An overdue newcomer only loses its delay: no session that arrives after it begins
// before it, and it begins when those before it have left room.
// Thrash. While more than half of the engine's time goes into computing again what sessions
// had, nobody begins but on an idle engine. That ends: those who have begun finish, or their share
// falls while nothing of theirs is computed again.
#pragma once

#include "lamps/backlog.h"
#include "lamps/log_histogram.h"
#include "lamps/policies/rules.h"

namespace lamps {

class LampsRules : public Rules {
 public:
  using Rules::Rules;

  [[nodiscard]] ReadyKey key_of(const Request& request) const override;
  [[nodiscard]] Refresh refresh() const override { return Refresh::kSome; }
  [[nodiscard]] bool ages(const Request& /*request*/) const override { return true; }
  [[nodiscard]] Seconds starvation_seconds() const override;

  [[nodiscard]] bool gated() const override { return true; }
  [[nodiscard]] bool plans_for_peak(const Request& request) const override;
  [[nodiscard]] Tokens asked_by(const Request& request) const override;
  [[nodiscard]] Tokens limit_for(const Request& request) const override;
  [[nodiscard]] bool pauses_yield_to(const Request& head, Tokens working) const override;
  [[nodiscard]] bool yields_to(const Session& pause, const Request& head) const override;

  [[nodiscard]] bool keeps() const override { return true; }
  [[nodiscard]] bool prefetches() const override { return true; }
  [[nodiscard]] bool copies_ahead() const override { return true; }
  [[nodiscard]] Verdict decide(Seconds now, SessionHandle handle) const override;
  [[nodiscard]] std::vector<SessionHandle> release_order(Seconds now) const override;

  [[nodiscard]] bool orders_running() const override { return true; }
  void order_running(std::vector<RequestHandle>& running) const override;

  void on_admission(Seconds now, const Request& request) override;

 private:
  [[nodiscard]] bool calm() const;
  [[nodiscard]] bool thrashes() const;
  [[nodiscard]] bool is_newcomer(const Request& request) const;
  [[nodiscard]] bool comes_back(const Request& request) const;
  [[nodiscard]] bool pushes_in(const Request& request) const;
  [[nodiscard]] TokenSeconds rank_of(const Request& request) const;
  [[nodiscard]] double preemption_loss(const Request& request) const;

  Backlog backlog_;                      // at the pace of newcomers
  LogHistogram waits_{1e-3, 1e6, 0.98};  // seconds that returning turns without KV had waited
};

}  // namespace lamps
