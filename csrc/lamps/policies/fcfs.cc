// SPDX-License-Identifier: Apache-2.0
#include "lamps/policies/fcfs.h"

namespace lamps {

ReadyKey FcfsRules::key_of(const Request& request) const {
  // The engine puts a preempted request in front of everyone who waits.
  if (request.preempted) {
    return {kOverdueClass, -static_cast<double>(request.preemption), request.sequence};
  }
  return {kRestClass, 0.0, request.sequence};
}

}  // namespace lamps
