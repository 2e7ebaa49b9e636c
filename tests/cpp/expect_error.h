// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace lamps::testing {

// The message of the `Expected` error that `action` throws; a test failure if it throws none.
template <typename Expected, typename Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const Expected& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

// The same, and the message has `words` in it.
template <typename Expected, typename Action>
void expect_error(const Action& action, const std::string& words) {
  const std::string message = error_of<Expected>(action);
  EXPECT_NE(message.find(words), std::string::npos) << message;
}

}  // namespace lamps::testing
