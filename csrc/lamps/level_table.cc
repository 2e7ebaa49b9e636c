// SPDX-License-Identifier: Apache-2.0
#include "lamps/level_table.h"

namespace lamps {

Level* LevelTable::at(std::size_t key) {
  if (key < slots_.size() && slots_[key] >= 0) {
    return &levels_[static_cast<std::size_t>(slots_[key])];
  }
  if (key >= keys_ || levels_.size() >= most_) return nullptr;
  if (key >= slots_.size()) slots_.resize(key + 1, -1);
  slots_[key] = static_cast<std::int32_t>(levels_.size());
  levels_.emplace_back(empty_);
  key_of_.push_back(key);
  return &levels_.back();
}

}  // namespace lamps
