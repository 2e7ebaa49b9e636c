// SPDX-License-Identifier: Apache-2.0
// What the predictor says about itself.
#include "lamps/predictor.h"

namespace lamps {

const char* to_string(CallKind kind) {
  switch (kind) {
    case CallKind::kUnknown:
      return "unknown";
    case CallKind::kTool:
      return "tool";
    case CallKind::kMessage:
      return "message";
  }
  return "?";
}

const char* Predictor::what(Table table) {
  if (table == kByTool) return "tool";
  return table < kOutTurn ? "call" : "output";
}

std::string Predictor::name_of(Table table, std::size_t key) const {
  const auto kind = [](std::size_t index) { return to_string(static_cast<CallKind>(index)); };
  switch (table) {
    case kByTool:
      return tool_names_[key];
    case kByPrompt:
      return "class " + std::to_string(key % kPrompts) + ", " + kind(key / kPrompts);
    case kByGap:
      return "gap " + std::to_string(key % kGapBuckets) + ", " + kind(key / kGapBuckets);
    case kByKind:
      return kind(key);
    case kOutTurn:
      return "class " + std::to_string(key / (kPlaces * kCaps)) + ", place " +
             std::to_string(key / kCaps % kPlaces);
    case kOutPrompt:
      return "class " + std::to_string(key);
    case kOutGap:
      return "gap " + std::to_string(key / kCaps);
    case kOutAny:
      return "all";
  }
  return "?";
}

std::vector<Predictor::Score> Predictor::scores() const {
  std::vector<Score> out;
  for (const Table which : {kByTool, kByKind, kOutPrompt, kOutAny}) {
    for (std::size_t i = 0; i < tables_[which].size(); ++i) {
      const Level& level = tables_[which].level(i);
      if (level.calibration.scored == 0) continue;
      out.push_back({what(which), name_of(which, tables_[which].key_of(i)), level.calibration,
                     level.gain(), level.drifts(), level.off()});
    }
  }
  return out;
}

}  // namespace lamps
