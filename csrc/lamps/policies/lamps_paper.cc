// SPDX-License-Identifier: Apache-2.0
#include "lamps/policies/lamps_paper.h"

namespace lamps {

void LampsPaperRules::on_arrival(Seconds /*now*/, const Request& request) {
  const auto session = static_cast<std::size_t>(request.session);
  if (session >= handling_.size()) handling_.resize(session + 1, Handling::kDiscard);
  const Outlook outlook = scene_.outlook_of(request);
  PauseContext pause;
  pause.context_tokens =
      scene_.whole_blocks(static_cast<double>(outlook.context_tokens) + outlook.output_tokens);
  pause.other_tokens = scene_.ledger.running_context();
  pause.expected_remaining = outlook.call_seconds;
  pause.p_return = outlook.p_return;
  pause.chunk = scene_.engine.step_tokens;
  pause.host_memory_free = scene_.host_has_room(pause.context_tokens);
  handling_[session] = least_waste(waste_of(pause, scene_.cost));
}

ReadyKey LampsPaperRules::key_of(const Request& request) const {
  Outlook outlook = scene_.outlook_of(request);
  outlook.handling = handling_[static_cast<std::size_t>(request.session)];
  outlook.further_segments = 0.0;  // the paper ranks up to the end of the next call
  const TokenSeconds area =
      memory_over_time(outlook, scene_.cost, scene_.load.decode_step, scene_.engine.step_tokens);
  return {request.overdue ? kOverdueClass : kRestClass, area, request.sequence};
}

Verdict LampsPaperRules::decide(Seconds /*now*/, SessionHandle handle) const {
  return {handling_[static_cast<std::size_t>(handle)], kForever};
}

}  // namespace lamps
