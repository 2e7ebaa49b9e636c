// SPDX-License-Identifier: Apache-2.0
#include "lamps/policies/session_fcfs.h"

namespace lamps {

ReadyKey SessionFcfsRules::key_of(const Request& request) const {
  const Session& session = scene_.ledger.session(request.session);
  return {kRestClass, static_cast<double>(session.number), request.sequence};
}

}  // namespace lamps
