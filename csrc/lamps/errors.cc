// SPDX-License-Identifier: Apache-2.0
#include "lamps/errors.h"

#include <array>
#include <charconv>

namespace lamps {
namespace {

// Shortest text that reads back as the same number, in any locale.
std::string text_of(double value) {
  std::array<char, 32> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), result.ptr};
}

}  // namespace

void require_in_range(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return;  // false for NaN
  throw InvalidOption(std::string(name) + " = " + text_of(value) + ": expected a number in [" +
                      text_of(low) + ", " + text_of(high) + "]");
}

}  // namespace lamps
