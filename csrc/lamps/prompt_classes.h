// SPDX-License-Identifier: Apache-2.0
// Kinds of requests, told by how their prompts begin: the same system prompt and tool set begin
// with the same tokens. Nothing says how long that beginning is, so it is found: the longest of the
// lengths 32, 64, ... 8192 tokens that several sessions had in common.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

namespace lamps {

using ClassId = std::int32_t;
inline constexpr ClassId kNoClass = -1;

class PromptClasses {
 public:
  static constexpr std::size_t kShortest = 32;  // tokens
  static constexpr std::size_t kLongest = 8192;
  static constexpr ClassId kMostClasses = 512;  // further ones are not told apart

  // A hash of the first 32, 64, ... of the tokens, as far as there are tokens. It depends on
  // nothing but the tokens, so it means the same after a restart.
  [[nodiscard]] static std::vector<std::uint64_t> beginnings(std::span<const std::int32_t> tokens);

  // Counts a new session's prompt and says what class it belongs to; kNoClass until enough
  // sessions have begun alike.
  ClassId classify(std::span<const std::uint64_t> beginnings);

  // For a snapshot: calls `write` with each class and its beginning, in order of classes.
  void each_class(const std::function<void(ClassId, std::uint64_t)>& write) const;
  void restore(ClassId id, std::uint64_t beginning);  // id in [0, kMostClasses)

 private:
  struct Beginning {
    int sessions = 0;
    ClassId id = kNoClass;
  };
  void drop_rare();

  std::unordered_map<std::uint64_t, Beginning> known_;
  ClassId next_ = 0;
};

}  // namespace lamps
