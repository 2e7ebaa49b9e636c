// SPDX-License-Identifier: Apache-2.0
#include "lamps/policies/continuum.h"

#include <algorithm>
#include <cmath>

namespace lamps {
namespace {

constexpr Seconds kColdStart = 2.0;
constexpr std::int64_t kEnoughCalls = 100;
constexpr int kGrid = 64;
constexpr Seconds kShortest = 1e-3;

}  // namespace

void RecentMean::observe(double value) {
  values_.push_back(value);
  sum_ += value;
  if (values_.size() <= window_) return;
  sum_ -= values_.front();
  values_.pop_front();
}

double RecentMean::mean() const {
  return values_.empty() ? 0.0 : sum_ / static_cast<double>(values_.size());
}

void Memoryfulness::observe(int turns) {
  for (int k = 1; k <= turns; ++k) {
    const double served = k;
    const double left = turns - k;
    ++count_;
    served_ += served;
    left_ += left;
    served_squares_ += served * served;
    left_squares_ += left * left;
    products_ += served * left;
  }
}

double Memoryfulness::value() const {
  const double spread =
      (count_ * served_squares_ - served_ * served_) * (count_ * left_squares_ - left_ * left_);
  if (spread <= 0.0) return 1.0;
  const double covariance = count_ * products_ - served_ * left_;
  return std::clamp(-covariance / std::sqrt(spread), -1.0, 1.0);
}

ReadyKey ContinuumRules::key_of(const Request& request) const {
  const Session& session = scene_.ledger.session(request.session);
  const bool kept = session.resident_tokens() > 0;
  return {request.preempted ? kOverdueClass
          : kept            ? kResidentClass
                            : kRestClass,
          static_cast<double>(session.number), request.sequence};
}

Seconds ContinuumRules::time_to_live(const Session& session) const {
  const Predictor& predictor = scene_.predictor;
  if (predictor.calls_seen() <= kEnoughCalls) return kColdStart;
  const Seconds benefit =
      queue_delay_.mean() * memoryfulness_.value() +
      scene_.cost.recompute_time(session.context_tokens, scene_.engine.step_tokens);
  Seconds best = 0.0;
  double most = 0.0;
  // A time to live longer than the benefit can only lose.
  const double ratio = std::pow(std::max(benefit / kShortest, 1.0), 1.0 / (kGrid - 1));
  Seconds tau = kShortest;
  for (int i = 0; i < kGrid; ++i, tau *= ratio) {
    const double ended = 1.0 - predictor.still_out(session.call_facts, 0.0, tau);
    const double utility = ended * benefit - tau;
    if (utility <= most) continue;
    most = utility;
    best = tau;
  }
  return best;
}

Verdict ContinuumRules::decide(Seconds now, SessionHandle handle) const {
  const Session& session = scene_.ledger.session(handle);
  const bool begins = now <= session.paused_at;
  const Seconds lives = begins ? time_to_live(session) : 0.0;
  return {lives > 0.0 ? Handling::kPreserve : Handling::kDiscard, lives};
}

std::vector<SessionHandle> ContinuumRules::release_order(Seconds /*now*/) const {
  return holders_by([](const Session& session) { return -static_cast<double>(session.number); });
}

void ContinuumRules::on_admission(Seconds now, const Request& request) {
  const bool lost = scene_.ledger.session(request.session).held_tokens == 0;
  if (request.facts.turn > 0 && lost && !request.preempted) {
    queue_delay_.observe(std::max(now - request.arrived, 0.0));
  }
}

void ContinuumRules::on_end(SessionHandle session) {
  memoryfulness_.observe(scene_.ledger.session(session).turns);
}

}  // namespace lamps
