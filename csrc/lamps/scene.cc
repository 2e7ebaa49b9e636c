// SPDX-License-Identifier: Apache-2.0
#include "lamps/scene.h"

#include <algorithm>
#include <cmath>

namespace lamps {

Tokens Scene::whole_blocks(double tokens) const {
  const double block = static_cast<double>(engine.block_tokens);
  const double most = static_cast<double>(std::min(engine.max_context, engine.capacity_tokens));
  return static_cast<Tokens>(std::ceil(std::min(tokens, most) / block) * block);
}

double Scene::expected_output(const Request& request) const {
  const double produced =
      std::max<double>(0.0, static_cast<double>(request.context_tokens - request.prompt_tokens));
  if (request.output_hint > produced) return request.output_hint;
  return produced + predictor.remaining_output(request.facts, produced);
}

Tokens Scene::peak_of(const Request& request) const {
  return whole_blocks(static_cast<double>(request.prompt_tokens) + expected_output(request));
}

Outlook Scene::outlook_of(const Request& request) const {
  Outlook outlook;
  outlook.context_tokens = request.prompt_tokens;
  outlook.cached_tokens = std::min(request.shared_tokens, request.prompt_tokens);
  outlook.host_tokens =
      std::min(request.host_tokens, outlook.context_tokens - outlook.cached_tokens);
  outlook.output_tokens = expected_output(request);
  if (request.final_hint) return outlook;
  outlook.p_return = predictor.p_return(request.facts, 0.0);
  outlook.call_seconds =
      request.call_hint >= 0.0 ? request.call_hint : predictor.remaining_call(request.facts, 0.0);
  outlook.further_segments = predictor.further_turns(request.facts);
  return outlook;
}

bool Scene::host_has_room(Tokens tokens) const {
  return ledger.host_tokens() - ledger.idle_host_tokens() + tokens <= engine.host_tokens;
}

PauseContext Scene::pause_context(Seconds now, const Session& session) const {
  const Seconds elapsed = std::max(now - session.paused_at, 0.0);
  PauseContext pause;
  pause.context_tokens = session.held_tokens > 0 ? session.held_tokens : session.context_tokens;
  pause.other_tokens = ledger.running_context();
  pause.expected_remaining = session.call_hint > elapsed
                                 ? session.call_hint - elapsed
                                 : predictor.remaining_call(session.call_facts, elapsed);
  pause.p_return = predictor.p_return(session.call_facts, elapsed);
  pause.pressure = load.pressure;
  pause.loss_share = load.loss_share;
  pause.chunk = engine.step_tokens;
  pause.host_memory_free = host_has_room(pause.context_tokens);
  pause.on_host = session.copy == Copy::kBoth;
  return pause;
}

}  // namespace lamps
