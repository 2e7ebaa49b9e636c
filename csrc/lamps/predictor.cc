// SPDX-License-Identifier: Apache-2.0
#include "lamps/predictor.h"

#include <algorithm>
#include <cmath>

namespace lamps {
namespace {

constexpr std::size_t kGapBuckets = Predictor::kGapBuckets;
constexpr std::size_t kPlaces = Predictor::kPlaces;
constexpr std::size_t kCaps = Predictor::kCaps;
constexpr std::size_t kPrompts = Predictor::kPrompts;

constexpr double kForgetting = 0.9995;  // about 2000 observations; drift is noticed earlier
constexpr double kMostFurtherTurns = 20.0;
constexpr Seconds kShortestCall = 1e-4;
constexpr Seconds kLongestCall = 1e5;
constexpr double kMostOutput = 1e6;
constexpr std::size_t kMostOutTurns = 2048;

// Calls of coding agents, measured on public traces: two thirds answer at once, a fifth within
// seconds, the rest are waits; people answer within minutes (docs/design.md, predictions).
constexpr LogNormal kToolCall[] = {{0.66, -1.72, 1.30}, {0.21, 1.28, 1.30}, {0.13, 4.55, 0.99}};
constexpr LogNormal kMessageCall[] = {
    {0.10, -0.69, 0.60}, {0.06, 0.28, 0.60}, {0.28, 4.97, 0.86}, {0.56, 6.26, 1.82}};
constexpr LogNormal kAnyCall[] = {
    {0.63, -1.72, 1.30}, {0.20, 1.28, 1.30}, {0.14, 4.55, 0.99}, {0.03, 6.26, 1.82}};
constexpr LogNormal kAnyOutput[] = {{1.0, 4.352, 1.0}};  // mean 128 tokens

// Observations that a prior counts for: one at first, then ever less. Its rare long waits would
// otherwise rule the mean of calls that all return at once, until hundreds of them were seen.
constexpr double kPriorFades = 10.0;
double prior_weight(double seen) { return 1.0 / (1.0 + seen / kPriorFades); }

// P(return) before anything was seen, and how many observations that counts for. Of a call that a
// program answers it is nearly certain; where nothing was recognised, nothing is known.
constexpr double kPriorReturn[kCallKinds] = {0.5, 0.97, 0.8};
constexpr double kPriorReturnWeight[kCallKinds] = {2.0, 10.0, 5.0};
// Further down, a fallback counts for as many observations as hold about five of what is rare: a
// share p of them. What was never seen in a sample smaller than that may still happen.
double rare_shrinkage(double p) { return std::clamp(5.0 / std::max(p, 1e-3), 10.0, 500.0); }
double return_shrinkage(double p) { return rare_shrinkage(std::min(p, 1.0 - p)); }

LogHistogram duration_histogram() { return {kShortestCall, kLongestCall, kForgetting}; }
LogHistogram output_histogram() { return {1.0, kMostOutput, kForgetting}; }

LogHistogram filled(LogHistogram histogram, std::span<const LogNormal> components) {
  fill(histogram, components);
  return histogram;
}

std::size_t gap_bucket(Seconds last_call) {
  if (last_call < 0.0) return 0;
  const double decade = std::log10(std::max(last_call, kShortestCall)) - std::log10(kShortestCall);
  return 1 + std::min<std::size_t>(static_cast<std::size_t>(decade), kGapBuckets - 2);
}

std::size_t turn_bucket(int turn) {
  return std::min<std::size_t>(static_cast<std::size_t>(std::max(turn, 0)),
                               Predictor::kTurnBuckets - 1);
}

std::size_t place_of(int turn) {
  if (turn <= 1) return static_cast<std::size_t>(std::max(turn, 0));
  return turn < 4 ? 2 : turn < 8 ? 3 : 4;
}

// Coarse on purpose: a cap is a habit of the client, not a prediction.
std::size_t cap_step(Tokens cap) {
  if (cap <= 0 || cap > 4096) return 0;
  return cap <= 16 ? 1 : cap <= 256 ? 2 : 3;
}

bool has_class(const TurnFacts& facts) {
  return facts.prompt >= 0 && facts.prompt < PromptClasses::kMostClasses;
}

// Bayes: a session that returns with chance p is still out with chance `out` if it does.
double given_silence(double p, double out) { return p * out / (p * out + (1.0 - p)); }

CallKind kind_of(const TurnFacts& facts) { return facts.tool >= 0 ? CallKind::kTool : facts.kind; }

// Before a turn has run nobody knows what will follow it.
TurnFacts before_it_ran(TurnFacts facts) {
  facts.tool = kNoTool;
  facts.kind = CallKind::kUnknown;
  return facts;
}

// Keys of the call tables.
std::size_t by_kind(CallKind kind) { return static_cast<std::size_t>(kind); }
std::size_t by_gap(CallKind kind, Seconds last_call) {
  return by_kind(kind) * kGapBuckets + gap_bucket(last_call);
}
std::size_t by_prompt(CallKind kind, ClassId prompt) {
  return by_kind(kind) * kPrompts + static_cast<std::size_t>(prompt);
}

}  // namespace

Predictor::Predictor()
    : call_priors_{filled(duration_histogram(), kAnyCall), filled(duration_histogram(), kToolCall),
                   filled(duration_histogram(), kMessageCall)},
      output_prior_(filled(output_histogram(), kAnyOutput)),
      prompt_calls_tools_(kPrompts, false) {
  const LogHistogram calls = duration_histogram();
  const LogHistogram outputs = output_histogram();
  const auto table = [this](const LogHistogram& empty, std::size_t keys, std::size_t most) {
    tables_.emplace_back(empty, keys, std::min(keys, most));
  };
  table(calls, kMaxTools, kMaxTools);                                // kByTool
  table(calls, kCallKinds * kPrompts, kCallKinds * kPrompts);        // kByPrompt
  table(calls, kCallKinds * kGapBuckets, kCallKinds * kGapBuckets);  // kByGap
  table(calls, kCallKinds, kCallKinds);                              // kByKind
  table(outputs, kPrompts * kPlaces * kCaps, kMostOutTurns);         // kOutTurn
  table(outputs, kPrompts, kPrompts);                                // kOutPrompt
  table(outputs, kGapBuckets * kCaps, kGapBuckets * kCaps);          // kOutGap
  table(outputs, 1, 1);                                              // kOutAny
}

// --- names ---

ToolId Predictor::tool_id(std::string_view name) {
  const auto found = tools_.find(std::string(name));
  if (found != tools_.end()) return found->second;
  if (tool_names_.size() >= kMaxTools) return static_cast<ToolId>(kMaxTools - 1);
  const auto id = static_cast<ToolId>(tool_names_.size());
  tool_names_.emplace_back(name);
  tool_parts_.emplace_back();
  tools_.emplace(name, id);
  return id;
}

ToolId Predictor::tool_id(std::span<const std::string_view> names) {
  if (names.empty()) return kNoTool;
  if (names.size() == 1) return tool_id(names.front());
  std::vector<std::string_view> sorted(names.begin(), names.end());
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  std::vector<ToolId> parts;
  std::string joined;
  for (const std::string_view name : sorted) {
    parts.push_back(tool_id(name));
    joined += joined.empty() ? "" : " + ";
    joined += name;
  }
  if (sorted.size() == 1) joined += " x" + std::to_string(names.size());
  const ToolId id = tool_id(joined);
  tool_parts_[static_cast<std::size_t>(id)] = std::move(parts);
  return id;
}

std::string_view Predictor::tool_name(ToolId tool) const {
  const auto index = static_cast<std::size_t>(tool);
  return tool >= 0 && index < tool_names_.size() ? std::string_view(tool_names_[index]) : "";
}

TurnFacts Predictor::at_end(TurnFacts facts, const TurnEnd& end) {
  const auto prompt = static_cast<std::size_t>(facts.prompt);
  const bool known = has_class(facts);
  if (!end.tools.empty()) {
    if (facts.tool < 0) facts.tool = tool_id(end.tools);
    facts.calls_tools = true;
    if (known) prompt_calls_tools_[prompt] = true;
  }
  // A turn without a call means something only where calls would have been recognised.
  if (facts.tool >= 0) {
    facts.kind = CallKind::kTool;
  } else if (end.readable && (facts.calls_tools || (known && prompt_calls_tools_[prompt]))) {
    facts.kind = CallKind::kMessage;
  }
  return facts;
}

// --- where facts belong ---

Predictor::Keys Predictor::call_keys(const TurnFacts& facts) const {
  Keys keys;
  const CallKind kind = kind_of(facts);
  const auto tool = static_cast<std::size_t>(facts.tool);
  if (facts.tool >= 0 && tool < tool_names_.size()) {
    keys.add(kByTool, tool);
    // Calls in parallel last as long as the slowest of them.
    const Level* slowest = nullptr;
    std::size_t part = 0;
    for (const ToolId id : tool_parts_[tool]) {
      const Level* level = tables_[kByTool].find(static_cast<std::size_t>(id));
      if (level == nullptr || level->seen().weight() <= 0.0) continue;
      if (slowest != nullptr && level->seen().mean() <= slowest->seen().mean()) continue;
      slowest = level;
      part = static_cast<std::size_t>(id);
    }
    if (slowest != nullptr) keys.add(kByTool, part, false);
  }
  if (has_class(facts)) keys.add(kByPrompt, by_prompt(kind, facts.prompt));
  keys.add(kByGap, by_gap(kind, facts.last_call));
  keys.add(kByKind, by_kind(kind));
  return keys;
}

Predictor::Keys Predictor::output_keys(const TurnFacts& facts) {
  Keys keys;
  const std::size_t cap = cap_step(facts.cap_tokens);
  if (has_class(facts)) {
    const auto prompt = static_cast<std::size_t>(facts.prompt);
    keys.add(kOutTurn, (prompt * kPlaces + place_of(facts.turn)) * kCaps + cap);
    keys.add(kOutPrompt, prompt);
  }
  keys.add(kOutGap, gap_bucket(facts.last_call) * kCaps + cap);
  keys.add(kOutAny, 0);
  return keys;
}

Mixture Predictor::mixture(const Keys& keys, std::size_t from, const LogHistogram& prior) const {
  Mixture mixture;
  for (std::size_t i = from; i < keys.size; ++i) {
    const Level* level = tables_[keys.list[i].table].find(keys.list[i].key);
    if (level == nullptr) continue;
    const bool is_last = i + 1 == keys.size;
    const double fallback = is_last ? prior_weight(level->seen().weight()) : Level::kShrinkage;
    mixture.add(level->seen(), level->share(fallback));
  }
  mixture.close(prior);
  return mixture;
}

const LogHistogram& Predictor::call_prior(const TurnFacts& facts) const {
  return call_priors_[by_kind(kind_of(facts))];
}

Mixture Predictor::calls(const TurnFacts& facts) const {
  return mixture(call_keys(facts), 0, call_prior(facts));
}

Mixture Predictor::outputs(const TurnFacts& facts) const {
  return mixture(output_keys(facts), 0, output_prior_);
}

// --- learning ---

void Predictor::learn(const Keys& keys, const LogHistogram& prior, double value) {
  // Most special first: no level is judged against a fallback that has seen the value already.
  for (std::size_t i = 0; i < keys.size; ++i) {
    const auto [which, key, learns] = keys.list[i];
    if (!learns) continue;
    Level* level = tables_[which].at(key);
    if (level == nullptr) continue;
    const bool was_off = level->off();
    level->observe(value, mixture(keys, i, prior), mixture(keys, i + 1, prior));
    if (level->off() != was_off && switches_.size() < kMostSwitches) {
      switches_.push_back({what(which), name_of(which, key), level->off()});
    }
  }
}

void Predictor::observe_output(const TurnFacts& facts, Tokens tokens) {
  const double value = static_cast<double>(std::max<Tokens>(tokens, 1));
  const Mixture predicted = outputs(facts);
  const Keys keys = output_keys(facts);
  for (const auto& [which, key, learns] : keys.all()) {
    if (which != kOutPrompt && which != kOutAny) continue;
    if (Level* level = tables_[which].at(key)) level->calibration.score(predicted, value);
  }
  learn(keys, output_prior_, value);
}

template <typename Observe>
void Predictor::at_return_counts(const TurnFacts& facts, const Observe& observe) {
  const auto at = [&](const TurnFacts& seen) {
    observe(return_by_turn_[by_kind(kind_of(seen))][turn_bucket(seen.turn)], 1.0);
    const Keys keys = call_keys(seen);
    for (const auto& [which, key, learns] : keys.all()) {
      if (which == kByGap || !learns) continue;
      if (Level* level = tables_[which].at(key)) observe(level->returns, kForgetting);
    }
  };
  at(facts);
  if (kind_of(facts) != CallKind::kUnknown) at(before_it_ran(facts));
}

void Predictor::observe_return(const TurnFacts& facts, bool came_back) {
  const double p = prior_p_return(facts);
  ReturnScore& score = return_scores_[std::min<std::size_t>(static_cast<std::size_t>(p * 10.0), 9)];
  ++(came_back ? score.returned : score.ended);
  at_return_counts(
      facts, [=](ReturnCount& count, double forgetting) { count.observe(came_back, forgetting); });
}

// A mixture cure model (Boag 1949): a share p returns, of these a share F(t) within t. A call that
// is silent at t has likelihood 1 - p F(t), one that returned p, one that ended 1 - p. The most
// likely p is returned / (returned + ended + sum of x), where x = F (1 - p) / (1 - p F): F times
// the chance that it has ended.
double Predictor::observe_silence(const TurnFacts& facts, Seconds elapsed, double counted) {
  double counts = 0.0;
  if (elapsed > 0.0) {
    const double out = still_out_of_all(facts, elapsed);
    counts = (1.0 - out) * (1.0 - given_silence(prior_p_return(facts), out));
  }
  at_return_counts(facts,
                   [=](ReturnCount& count, double) { count.count_silence(counts - counted); });
  return counts;
}

void Predictor::observe_call(const TurnFacts& facts, Seconds duration) {
  ++calls_seen_;
  const Mixture predicted = calls(facts);
  const Keys keys = call_keys(facts);
  for (const auto& [which, key, learns] : keys.all()) {
    if ((which != kByTool && which != kByKind) || !learns) continue;
    if (Level* level = tables_[which].at(key)) level->calibration.score(predicted, duration);
  }
  observe_return(facts, true);
  learn(keys, call_prior(facts), duration);
  if (kind_of(facts) == CallKind::kUnknown) return;
  const TurnFacts before = before_it_ran(facts);
  learn(call_keys(before), call_prior(before), duration);
}

void Predictor::observe_no_return(const TurnFacts& facts) { observe_return(facts, false); }

// --- questions ---

double Predictor::remaining_output(const TurnFacts& facts, double produced) const {
  return std::max(outputs(facts).expected_remaining(produced), 1.0);
}

Seconds Predictor::remaining_call(const TurnFacts& facts, Seconds elapsed) const {
  return calls(facts).expected_remaining(elapsed);
}

Seconds Predictor::call_quantile(const TurnFacts& facts, Seconds elapsed, double p) const {
  return calls(facts).remaining_quantile(elapsed, p);
}

double Predictor::still_out(const TurnFacts& facts, Seconds elapsed, Seconds later) const {
  return calls(facts).still_out(elapsed, later);
}

double Predictor::prior_p_return(const TurnFacts& facts) const {
  const CallKind kind = kind_of(facts);
  const std::size_t index = by_kind(kind);
  double p = kPriorReturn[index];
  if (const Level* all = tables_[kByKind].find(index)) {
    p = all->returns.rate(p, kPriorReturnWeight[index]);
  }
  p = return_by_turn_[index][turn_bucket(facts.turn)].rate(p, return_shrinkage(p));
  if (has_class(facts)) {
    const Level* level = tables_[kByPrompt].find(by_prompt(kind, facts.prompt));
    if (level != nullptr) p = level->returns.rate(p, return_shrinkage(p));
  }
  if (facts.tool >= 0) {
    const Level* level = tables_[kByTool].find(static_cast<std::size_t>(facts.tool));
    if (level != nullptr) p = level->returns.rate(p, return_shrinkage(p));
  }
  return p;
}

// P(a call lasts longer, given that the session returns). Less of it is believed of the special
// levels than a mixture does: of calls so long each of them has seen few.
double Predictor::still_out_of_all(const TurnFacts& facts, Seconds elapsed) const {
  const Keys keys = call_keys(facts);
  const LogHistogram::Place place = call_prior(facts).locate(elapsed);
  double longer = call_prior(facts).beyond(place).weight / call_prior(facts).weight();
  for (std::size_t i = keys.size; i-- > 0;) {
    const Level* level = tables_[keys.list[i].table].find(keys.list[i].key);
    if (level == nullptr || level->off()) continue;
    const double seen = level->seen().weight();
    const double fallback = i + 1 == keys.size ? prior_weight(seen) : rare_shrinkage(longer);
    longer = (level->seen().beyond(place).weight + fallback * longer) / (seen + fallback);
  }
  return longer;
}

double Predictor::p_return(const TurnFacts& facts, Seconds elapsed) const {
  return given_silence(prior_p_return(facts), still_out_of_all(facts, elapsed));
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
  const Level* any = tables_[kByKind].find(by_kind(CallKind::kUnknown));
  if (any == nullptr || any->seen().weight() < kEnough) return kFirst;
  return 4.0 * std::max(any->seen().quantile(0.99), 1.0);
}

}  // namespace lamps
