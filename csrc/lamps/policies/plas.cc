// SPDX-License-Identifier: Apache-2.0
#include "lamps/policies/plas.h"

#include <algorithm>

namespace lamps {

ReadyKey PlasRules::key_of(const Request& request) const {
  return {kRestClass, scene_.ledger.session(request.session).served, request.sequence};
}

void PlasRules::order_running(std::vector<RequestHandle>& running) const {
  std::sort(running.begin(), running.end(), [this](RequestHandle a, RequestHandle b) {
    return key_of(scene_.ledger.request(a)) < key_of(scene_.ledger.request(b));
  });
}

}  // namespace lamps
