// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace lamps::swap {

using JobId = std::int64_t;
inline constexpr JobId kNoJob = 0;

// How a job ended, better ones first.
enum class Outcome : std::uint8_t {
  kDone,
  kCancelled,         // asked for, or the mover was stopped; some bytes may have been copied
  kInvalidBlocks,     // a block, or a row of a store, occurs twice; nothing was copied
  kCopyFailed,        // the device reported an error; any byte of the target may be wrong
  kChecksumMismatch,  // the bytes loaded are not those stored
};

[[nodiscard]] constexpr const char* to_string(Outcome outcome) {
  constexpr const char* kNames[] = {"done", "cancelled", "invalid-blocks", "copy-failed",
                                    "checksum-mismatch"};
  return kNames[static_cast<int>(outcome)];
}

}  // namespace lamps::swap
