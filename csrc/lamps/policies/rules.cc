// SPDX-License-Identifier: Apache-2.0
#include "lamps/policies/rules.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "lamps/errors.h"
#include "lamps/policies/continuum.h"
#include "lamps/policies/fcfs.h"
#include "lamps/policies/infercept.h"
#include "lamps/policies/lamps.h"
#include "lamps/policies/lamps_paper.h"
#include "lamps/policies/mars_code.h"
#include "lamps/policies/plas.h"
#include "lamps/policies/session_fcfs.h"
#include "lamps/policies/sjf.h"
#include "lamps/policies/thunder.h"

namespace lamps {

std::vector<SessionHandle> Rules::release_order(Seconds /*now*/) const {
  return holders_by([](const Session& session) { return session.paused_at; });
}

std::vector<SessionHandle> Rules::holders_by(
    const std::function<double(const Session&)>& price) const {
  using Candidate = std::tuple<bool, double, SessionHandle>;  // returned, order, session
  std::vector<Candidate> candidates;
  candidates.reserve(scene_.ledger.holders().size());
  for (const SessionHandle handle : scene_.ledger.holders()) {
    const Session& session = scene_.ledger.session(handle);
    const bool returned = session.state != SessionState::kPaused;
    candidates.emplace_back(returned, returned ? -session.arrival : price(session), handle);
  }
  std::sort(candidates.begin(), candidates.end());
  std::vector<SessionHandle> order;
  order.reserve(candidates.size());
  for (const Candidate& candidate : candidates) order.push_back(std::get<SessionHandle>(candidate));
  return order;
}

void Rules::oldest_session_first(std::vector<RequestHandle>& running) const {
  std::sort(running.begin(), running.end(), [this](RequestHandle a, RequestHandle b) {
    const Request& first = scene_.ledger.request(a);
    const Request& second = scene_.ledger.request(b);
    const auto age = [this](const Request& request) {
      return std::pair(scene_.ledger.session(request.session).number, request.sequence);
    };
    return age(first) < age(second);
  });
}

std::unique_ptr<Rules> make_rules(PolicyName policy, const Scene& scene) {
  switch (policy) {
    case PolicyName::kLamps:
      return std::make_unique<LampsRules>(scene);
    case PolicyName::kFcfs:
      return std::make_unique<FcfsRules>(scene);
    case PolicyName::kSessionFcfs:
      return std::make_unique<SessionFcfsRules>(scene);
    case PolicyName::kSjf:
      return std::make_unique<SjfRules>(scene);
    case PolicyName::kSjfTotal:
      return std::make_unique<SjfTotalRules>(scene);
    case PolicyName::kInfercept:
      return std::make_unique<InferceptRules>(scene);
    case PolicyName::kLampsPaper:
      return std::make_unique<LampsPaperRules>(scene);
    case PolicyName::kMarsCode:
      return std::make_unique<MarsCodeRules>(scene);
    case PolicyName::kContinuum:
      return std::make_unique<ContinuumRules>(scene);
    case PolicyName::kThunder:
      return std::make_unique<ThunderRules>(scene);
    case PolicyName::kPlas:
      return std::make_unique<PlasRules>(scene);
  }
  throw InvalidOption("policy = " + std::to_string(static_cast<int>(policy)) +
                      ": expected a PolicyName");
}

}  // namespace lamps
