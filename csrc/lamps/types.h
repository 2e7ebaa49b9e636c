// SPDX-License-Identifier: Apache-2.0
// Units and handles shared by the whole policy core.
#pragma once

#include <cstdint>
#include <limits>

namespace lamps {

using Tokens = std::int64_t;  // KV positions; may be a difference, hence signed
using Bytes = std::int64_t;   // 64-bit: KV pools exceed 4 GiB
using Seconds = double;       // durations and instants; the origin is the caller's
using TokenSeconds = double;  // the one currency: KV tokens held x seconds held
using Steps = std::int64_t;   // engine iterations

// Dense handles given out by the caller: small integers, reused after release.
using RequestHandle = std::int32_t;
using SessionHandle = std::int32_t;

inline constexpr std::int32_t kNoHandle = -1;
inline constexpr Seconds kForever = std::numeric_limits<Seconds>::infinity();

// What happens to a session's KV while its call (tool, API, human) runs.
enum class Handling : std::uint8_t { kPreserve, kDiscard, kSwap };

[[nodiscard]] constexpr const char* to_string(Handling handling) {
  switch (handling) {
    case Handling::kPreserve:
      return "preserve";
    case Handling::kDiscard:
      return "discard";
    case Handling::kSwap:
      return "swap";
  }
  return "?";
}

}  // namespace lamps
