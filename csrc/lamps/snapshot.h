// SPDX-License-Identifier: Apache-2.0
// What the predictor has learned, as text, so that the next run starts warm. Versioned, with a
// checksum, read by people and by any machine:
//   lamps-predictions 1
//   <table> <key> <off> <gain> <returned> <ended> <bin>:<observations>:<sum> ...
//   turn <kind> <turn> <returned> <ended>
//   class <id> <hash of the beginning, hex> <calls tools>
//   end <64-bit FNV-1a of all bytes before this line, hex>
// <key> is a number, or the name of a tool with everything but letters, digits and -_. as %XX.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "lamps/predictor.h"

namespace lamps {

// Writes in slices, so that nobody waits for the whole. The predictor may learn between two slices:
// every line is consistent in itself, and none depends on another.
class SnapshotWriter {
 public:
  explicit SnapshotWriter(const Predictor& predictor)
      : predictor_(&predictor) {}  // must outlive it
  // The next lines: at most `most` levels, most > 0. Empty when all has been written.
  [[nodiscard]] std::string next(std::size_t most);

 private:
  void write_level(std::size_t table, std::size_t index, std::string& out) const;
  void write_rest(std::string& out) const;

  const Predictor* predictor_;
  std::size_t table_ = 0;
  std::size_t index_ = 0;
  std::uint64_t checksum_ = 0;
  enum class State : std::uint8_t { kStart, kLevels, kDone } state_ = State::kStart;
};

// The predictor that a snapshot describes. Throws BadSnapshot.
[[nodiscard]] Predictor read_snapshot(std::string_view snapshot);

}  // namespace lamps
