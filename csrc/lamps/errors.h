// SPDX-License-Identifier: Apache-2.0
// The closed family of errors of the core. Each maps to one Python exception of the same name.
#pragma once

#include <stdexcept>
#include <string>

namespace lamps {

// Base: catch this to catch everything the core throws on purpose.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A value outside its documented range. The message names the option, the value and the range.
struct InvalidOption : Error {
  using Error::Error;
};

// A handle that the core does not know, or knows in another state than the call needs.
struct UnknownHandle : Error {
  using Error::Error;
};

// A snapshot of predictions that is damaged, cut short or of another version. The message says what
// is wrong and where; nothing of it has been taken over.
struct BadSnapshot : Error {
  using Error::Error;
};

// The core's own bookkeeping contradicts itself: a bug. Thrown by check_invariants() only.
struct InvariantViolation : Error {
  using Error::Error;
};

// Throws InvalidOption("<name> = <value>: expected a number in [low, high]") unless low <= value <=
// high. NaN is always rejected.
void require_in_range(const char* name, double value, double low, double high);

}  // namespace lamps
