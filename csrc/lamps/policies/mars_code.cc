// SPDX-License-Identifier: Apache-2.0
#include "lamps/policies/mars_code.h"

#include <algorithm>
#include <cmath>

namespace lamps {
namespace {

// Constants written into the code: never measured there, unlike a and base.
constexpr Seconds kScorePerToken = 0.1e-3;
constexpr Seconds kScoreBase = 10e-3;
constexpr Seconds kSwapPerToken = 0.181e-3;
constexpr Seconds kSwapBase = 22.5e-3;
constexpr Seconds kSwapPerOther = 0.136e-3;
constexpr double kSwapCall = 0.1;    // weight of the call's seconds, in a score of token-seconds
constexpr Seconds kLastCall = 1e-9;  // the call after a session's last turn

double triangle(double n) { return 0.5 * n * (n + 1.0); }

}  // namespace

std::vector<SessionHandle> MarsCodeRules::on_step(Seconds /*now*/,
                                                  std::span<const RequestHandle> running) {
  inflight_ = 0.0;
  for (const RequestHandle handle : running) {
    if (!scene_.ledger.has_request(handle)) continue;
    const Request& request = scene_.ledger.request(handle);
    const Tokens missing = request.prompt_tokens - request.context_tokens;
    inflight_ += static_cast<double>(std::max<Tokens>(missing, 1));
  }
  return {};
}

double MarsCodeRules::headroom() const {
  return std::max(static_cast<double>(scene_.engine.step_tokens) - inflight_, 1.0);
}

MarsCodeRules::Turn MarsCodeRules::turn_of(const Request& request) const {
  const double block = static_cast<double>(scene_.engine.block_tokens);
  const Outlook outlook = scene_.outlook_of(request);
  const double returned = returned_count_ > 0.0 ? returned_sum_ / returned_count_ : 0.0;
  const double length = chosen(request.session).first_prompt + outlook.output_tokens;
  return {std::ceil(length / block), std::ceil((outlook.output_tokens + returned) / block),
          request.final_hint ? kLastCall : outlook.call_seconds, request.final_hint};
}

Waste MarsCodeRules::waste_of_call(const Turn& turn) const {
  const CostParameters& cost = scene_.cost.parameters();
  const double tokens = turn.before * static_cast<double>(scene_.engine.block_tokens);
  const double running = static_cast<double>(scene_.ledger.running_context());
  const double most = static_cast<double>(scene_.engine.step_tokens);
  const double c = headroom();
  const double chunks = std::ceil(tokens / c) - 1.0;
  Waste waste;
  waste.preserve = turn.call * tokens;
  const double n = std::max(chunks, 0.0);
  const double rest = std::fmod(tokens, c);
  waste.discard = (cost.per_prefill * most + cost.base) * triangle(n) * c +
                  cost.per_prefill * c * n * running + cost.per_prefill * rest * (running + rest);
  const double m = std::max(chunks, 1.0);
  waste.swap =
      (kSwapPerToken * most + kSwapBase) * m * tokens + 2.0 * kSwapPerOther * c * m * running;
  const bool possible =
      scene_.cost.swap_time(1) < kForever && scene_.host_has_room(static_cast<Tokens>(tokens));
  if (!possible) waste.swap = kForever;
  return waste;
}

TokenSeconds MarsCodeRules::growth_area(double blocks) const {
  const double c = headroom();
  const double tokens = blocks * static_cast<double>(scene_.engine.block_tokens);
  const double step = kScorePerToken * static_cast<double>(scene_.engine.step_tokens) + kScoreBase;
  return step * triangle(std::max(std::ceil(tokens / c), 1.0)) * c;
}

void MarsCodeRules::on_arrival(Seconds /*now*/, const Request& request) {
  const auto index = static_cast<std::size_t>(request.session);
  if (index >= chosen_.size()) chosen_.resize(index + 1);
  Chosen& choice = chosen_[index];
  const Session& session = scene_.ledger.session(request.session);
  if (request.facts.turn == 0) {
    choice.first_prompt = static_cast<double>(request.prompt_tokens);
  } else if (request.prompt_tokens > session.context_tokens) {
    returned_sum_ += static_cast<double>(request.prompt_tokens - session.context_tokens);
    returned_count_ += 1.0;
  }
  const Waste waste = waste_of_call(turn_of(request));
  choice.handling = least_waste(waste);
  choice.waste = std::min({waste.preserve, waste.discard, waste.swap});
}

InferceptRules::Weighed MarsCodeRules::weigh(Seconds /*now*/, SessionHandle handle) const {
  return {handle, chosen(handle).handling, chosen(handle).waste};
}

ReadyKey MarsCodeRules::key_of(const Request& request) const {
  const Session& session = scene_.ledger.session(request.session);
  // A turn whose KV is here joins the running requests without being ranked.
  if (session.resident_tokens() > 0) {
    return {kOverdueClass, static_cast<double>(session.number), request.sequence};
  }
  if (request.overdue) return {kResidentClass, 0.0, request.sequence};
  const Turn turn = turn_of(request);
  const double tokens = turn.before * static_cast<double>(scene_.engine.block_tokens);
  const double copies = 0.25 * turn.before * turn.before;
  TokenSeconds score = 0.0;
  switch (chosen(request.session).handling) {
    case Handling::kPreserve:
      score = growth_area(turn.before) + tokens * turn.call + growth_area(turn.after);
      break;
    case Handling::kDiscard:
      score = (turn.last ? 0.0 : growth_area(turn.before)) + growth_area(turn.before + turn.after);
      break;
    case Handling::kSwap:
      score = turn.last ? copies + growth_area(turn.after)
                        : growth_area(turn.before) + 2.0 * copies + kSwapCall * turn.call +
                              growth_area(turn.after);
      break;
  }
  return {kRestClass, score, request.sequence};
}

bool MarsCodeRules::ages(const Request& request) const {
  return request.facts.turn > 0 || request.preempted;
}

}  // namespace lamps
