// SPDX-License-Identifier: Apache-2.0
#include "lamps/policies/sjf.h"

namespace lamps {

Seconds SjfRules::output_seconds(const Request& request) const {
  return scene_.expected_output(request) * scene_.load.decode_step;
}

ReadyKey SjfRules::key_of(const Request& request) const {
  return {kRestClass, output_seconds(request), request.sequence};
}

ReadyKey SjfTotalRules::key_of(const Request& request) const {
  const Outlook outlook = scene_.outlook_of(request);
  const Seconds call = outlook.p_return > 0.0 ? outlook.p_return * outlook.call_seconds : 0.0;
  return {kRestClass, output_seconds(request) + call, request.sequence};
}

}  // namespace lamps
