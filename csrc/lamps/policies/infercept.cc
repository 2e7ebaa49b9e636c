// SPDX-License-Identifier: Apache-2.0
#include "lamps/policies/infercept.h"

#include <algorithm>

namespace lamps {

ReadyKey InferceptRules::key_of(const Request& request) const {
  const Session& session = scene_.ledger.session(request.session);
  const bool here = session.resident_tokens() > 0;
  const auto away =
      static_cast<std::uint8_t>(session.copy == Copy::kHost ? kRestClass : kRestClass + 1);
  return {here ? kResidentClass : away, static_cast<double>(session.number), request.sequence};
}

Verdict InferceptRules::decide(Seconds /*now*/, SessionHandle /*handle*/) const {
  return {Handling::kPreserve, kForever};
}

// Memory counts as wanted, freed blocks as lost and the session as returning: the source knows
// neither an idle pool nor a prefix cache nor sessions that stay away.
InferceptRules::Weighed InferceptRules::weigh(Seconds now, SessionHandle handle) const {
  PauseContext pause = scene_.pause_context(now, scene_.ledger.session(handle));
  pause.pressure = pause.loss_share = pause.p_return = 1.0;
  const Waste waste = waste_of(pause, scene_.cost);
  return {handle, least_waste(waste), std::min({waste.preserve, waste.discard, waste.swap})};
}

std::pair<std::vector<InferceptRules::Weighed>, TokenSeconds> InferceptRules::weigh_all(
    Seconds now) const {
  std::vector<Weighed> weighed;
  TokenSeconds most = 0.0;
  for (const SessionHandle handle : scene_.ledger.holders()) {
    if (scene_.ledger.session(handle).state != SessionState::kPaused) continue;
    weighed.push_back(weigh(now, handle));
    most = std::max(most, weighed.back().waste);
  }
  return {std::move(weighed), most};
}

std::vector<Overruled> InferceptRules::overruled(Seconds now) const {
  const auto [weighed, most] = weigh_all(now);
  std::vector<Overruled> going;
  for (const Weighed& each : weighed) {
    if (each.handling == Handling::kPreserve || each.waste >= most) continue;
    going.push_back({each.session, each.handling});
  }
  return going;
}

// Only those with the largest waste give way; without pauses those that have returned, youngest
// first, as the source would preempt them.
std::vector<SessionHandle> InferceptRules::release_order(Seconds now) const {
  const auto [weighed, most] = weigh_all(now);
  std::vector<SessionHandle> victims;
  for (const Weighed& each : weighed) {
    if (each.waste >= most) victims.push_back(each.session);
  }
  std::sort(victims.begin(), victims.end());
  return victims.empty() ? Rules::release_order(now) : victims;
}

}  // namespace lamps
