// SPDX-License-Identifier: Apache-2.0
// `continuum`: time-to-live retention (Continuum, arXiv 2511.02230). When a turn ends its KV is
// kept for the tau that maximises  P(the call ends within tau) * benefit - tau,  where benefit =
// seconds to compute the context again + mean queueing delay of turns that had lost their KV *
// memoryfulness, and memoryfulness = -correlation(turns served, turns left) over ended sessions.
// The distribution is the tool's, or all tools' while it is young; until 100 calls were seen tau is
// 2 s. Preempted turns go first, then turns whose KV is kept, then the oldest session. When memory
// is short the youngest session's KV is let go first. Hints of a call's length are not used.
#pragma once

#include <deque>
#include <vector>

#include "lamps/policies/rules.h"

namespace lamps {

// Mean of the last `window` values; 0 before the first.
class RecentMean {
 public:
  explicit RecentMean(std::size_t window) : window_(window) {}
  void observe(double value);
  [[nodiscard]] double mean() const;

 private:
  std::size_t window_;
  std::deque<double> values_;
  double sum_ = 0.0;
};

// -correlation of k and N - k over all k = 1..N of the sessions seen, N = turns of a session: 1
// when every session has equally many turns, so that each turn served brings the end nearer.
class Memoryfulness {
 public:
  void observe(int turns);
  [[nodiscard]] double value() const;  // [-1, 1]; 1 before it can be told

 private:
  double count_ = 0, served_ = 0, left_ = 0, served_squares_ = 0, left_squares_ = 0, products_ = 0;
};

class ContinuumRules : public Rules {
 public:
  explicit ContinuumRules(const Scene& scene) : Rules(scene) {}

  [[nodiscard]] ReadyKey key_of(const Request& request) const override;
  [[nodiscard]] bool keeps() const override { return true; }
  [[nodiscard]] Verdict decide(Seconds now, SessionHandle handle) const override;
  [[nodiscard]] std::vector<SessionHandle> release_order(Seconds now) const override;

  void on_admission(Seconds now, const Request& request) override;
  void on_end(SessionHandle session) override;

  // tau for a session whose pause begins, seconds.
  [[nodiscard]] Seconds time_to_live(const Session& session) const;

 private:
  RecentMean queue_delay_{100};
  Memoryfulness memoryfulness_;
};

}  // namespace lamps
