// SPDX-License-Identifier: Apache-2.0
#include "lamps/predictor.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace lamps {
namespace {

constexpr double kForgetting = 0.998;   // about 500 observations
constexpr double kShrinkage = 5.0;      // observations the fallback counts for
constexpr double kPriorReturn = 0.5;    // before anything was seen
constexpr double kPriorWeight = 2.0;    // ... and how many observations that is worth
constexpr Seconds kPriorCall = 1.0;     // a tool call before any was seen
constexpr double kPriorOutput = 128.0;  // tokens of a turn before any was seen
constexpr double kMostFurtherTurns = 20.0;
constexpr Seconds kShortestCall = 1e-4;
constexpr Seconds kLongestCall = 1e5;
constexpr double kMostOutput = 1e6;

LogHistogram duration_histogram() { return {kShortestCall, kLongestCall, kForgetting}; }
LogHistogram output_histogram() { return {1.0, kMostOutput, kForgetting}; }

// Mean of a special and a general estimate, weighted by how much the special one has seen.
double blend(double special, double special_weight, double general) {
  return (special * special_weight + general * kShrinkage) / (special_weight + kShrinkage);
}

}  // namespace

Predictor::CallClass::CallClass() : duration(duration_histogram()) {}

Predictor::Predictor()
    : by_gap_(kGapBuckets),
      output_by_gap_(kGapBuckets, output_histogram()),
      return_by_turn_(kTurnBuckets),
      any_output_(output_histogram()) {}

ToolId Predictor::tool_id(std::string_view name) {
  const auto found = tools_.find(std::string(name));
  if (found != tools_.end()) return found->second;
  if (by_tool_.size() >= kMaxTools) return static_cast<ToolId>(kMaxTools - 1);
  const auto id = static_cast<ToolId>(by_tool_.size());
  by_tool_.emplace_back();
  tools_.emplace(name, id);
  return id;
}

std::size_t Predictor::gap_bucket(Seconds last_call) {
  if (last_call < 0.0) return 0;
  const double decade = std::log10(std::max(last_call, kShortestCall)) - std::log10(kShortestCall);
  return 1 + std::min<std::size_t>(static_cast<std::size_t>(decade), kGapBuckets - 2);
}

std::size_t Predictor::turn_bucket(int turn) {
  return std::min<std::size_t>(static_cast<std::size_t>(std::max(turn, 0)), kTurnBuckets - 1);
}

const Predictor::CallClass& Predictor::call_class(const TurnFacts& facts) const {
  if (facts.tool >= 0 && static_cast<std::size_t>(facts.tool) < by_tool_.size()) {
    return by_tool_[static_cast<std::size_t>(facts.tool)];
  }
  return by_gap_[gap_bucket(facts.last_call)];
}

Predictor::CallClass& Predictor::call_class(const TurnFacts& facts) {
  return const_cast<CallClass&>(std::as_const(*this).call_class(facts));
}

void Predictor::observe_output(const TurnFacts& facts, Tokens tokens) {
  const double value = static_cast<double>(std::max<Tokens>(tokens, 1));
  output_by_gap_[gap_bucket(facts.last_call)].observe(value);
  any_output_.observe(value);
}

void Predictor::observe_call(const TurnFacts& facts, Seconds duration) {
  ++calls_seen_;
  for (CallClass* seen : {&call_class(facts), &any_call_}) {
    seen->duration.observe(duration);
    seen->count.returned = seen->count.returned * kForgetting + 1.0;
    seen->count.ended *= kForgetting;
  }
  return_by_turn_[turn_bucket(facts.turn)].returned += 1.0;
}

void Predictor::observe_no_return(const TurnFacts& facts) {
  for (CallClass* seen : {&call_class(facts), &any_call_}) {
    seen->count.ended = seen->count.ended * kForgetting + 1.0;
    seen->count.returned *= kForgetting;
  }
  return_by_turn_[turn_bucket(facts.turn)].ended += 1.0;
}

double Predictor::remaining_output(const TurnFacts& facts, double produced) const {
  const double general = any_output_.weight() > 0 ? any_output_.expected_remaining(produced)
                                                  : std::max(kPriorOutput - produced, produced);
  const LogHistogram& special = output_by_gap_[gap_bucket(facts.last_call)];
  const double seen = special.weight() * special.survival(produced);
  const double expected =
      special.weight() > 0 ? blend(special.expected_remaining(produced), seen, general) : general;
  return std::max(expected, 1.0);
}

Seconds Predictor::remaining_call(const TurnFacts& facts, Seconds elapsed) const {
  const Seconds general = any_call_.duration.weight() > 0
                              ? any_call_.duration.expected_remaining(elapsed)
                              : std::max(kPriorCall - elapsed, elapsed);
  const LogHistogram& special = call_class(facts).duration;
  const double seen = special.weight() * special.survival(elapsed);
  const Seconds expected =
      special.weight() > 0 ? blend(special.expected_remaining(elapsed), seen, general) : general;
  return std::max(expected, kShortestCall);
}

double Predictor::prior_p_return(const TurnFacts& facts) const {
  const auto rate = [](const ReturnCount& count, double fallback, double weight) {
    return (count.returned + fallback * weight) / (count.returned + count.ended + weight);
  };
  const double general = rate(any_call_.count, kPriorReturn, kPriorWeight);
  return rate(return_by_turn_[turn_bucket(facts.turn)], general, kShrinkage);
}

double Predictor::p_return(const TurnFacts& facts, Seconds elapsed) const {
  const double prior = prior_p_return(facts);
  const LogHistogram& special = call_class(facts).duration;
  const double survival =
      blend(special.survival(elapsed), special.weight(), any_call_.duration.survival(elapsed));
  const double alive = prior * survival;
  return alive / (alive + (1.0 - prior));  // Bayes: silence speaks for "will not return"
}

double Predictor::still_out(const TurnFacts& facts, Seconds elapsed, Seconds later) const {
  const auto conditional = [&](const LogHistogram& duration) {
    const double now = duration.survival(elapsed);
    // Beyond everything seen: a Pareto tail of exponent 1, like LogHistogram::expected_remaining.
    if (now <= 1e-9) return elapsed / (elapsed + later);
    return duration.survival(elapsed + later) / now;
  };
  const LogHistogram& special = call_class(facts).duration;
  const double general = any_call_.duration.weight() > 0 ? conditional(any_call_.duration)
                                                         : kPriorCall / (kPriorCall + later);
  if (special.weight() <= 0) return general;
  return blend(conditional(special), special.weight() * special.survival(elapsed), general);
}

double Predictor::further_turns(const TurnFacts& facts) const {
  TurnFacts next = facts;
  ++next.turn;
  const double p = prior_p_return(next);
  return std::min(p / std::max(1.0 - p, 1e-3), kMostFurtherTurns);
}

Seconds Predictor::patience() const {
  constexpr Seconds kFirst = 60.0;  // before anything was learned
  constexpr double kEnough = 20.0;  // returns that make a tail
  if (any_call_.duration.weight() < kEnough) return kFirst;
  return 4.0 * std::max(any_call_.duration.quantile(0.99), 1.0);
}

}  // namespace lamps
