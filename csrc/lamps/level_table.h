// SPDX-License-Identifier: Apache-2.0
// Levels by key, made when first needed and never more than a bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "lamps/level.h"

namespace lamps {

class LevelTable {
 public:
  // Keys are in [0, keys); at most `most` of them get a level.
  LevelTable(const LogHistogram& empty, std::size_t keys, std::size_t most)
      : empty_(empty), keys_(keys), most_(most) {}

  [[nodiscard]] const Level* find(std::size_t key) const {
    return key < slots_.size() && slots_[key] >= 0 ? &levels_[static_cast<std::size_t>(slots_[key])]
                                                   : nullptr;
  }
  // The level of a key, a new one if it had none; nullptr if there is no room for another or the
  // key is out of range.
  Level* at(std::size_t key);

  // In the order in which they were made; never reordered.
  [[nodiscard]] std::size_t size() const { return levels_.size(); }
  [[nodiscard]] std::size_t key_of(std::size_t index) const { return key_of_[index]; }
  [[nodiscard]] const Level& level(std::size_t index) const { return levels_[index]; }

 private:
  LogHistogram empty_;
  std::size_t keys_;
  std::size_t most_;
  std::vector<std::int32_t> slots_;
  std::deque<Level> levels_;  // a deque: growing copies nothing
  std::vector<std::size_t> key_of_;
};

}  // namespace lamps
