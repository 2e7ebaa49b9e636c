// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>
#include <type_traits>

#include "expect_error.h"
#include "lamps/errors.h"

namespace lamps {
namespace {

using testing::error_of;

TEST(RequireInRange, AcceptsBothEnds) {
  EXPECT_NO_THROW(require_in_range("share", 0.1, 0.1, 1.0));
  EXPECT_NO_THROW(require_in_range("share", 1.0, 0.1, 1.0));
  EXPECT_NO_THROW(require_in_range("share", 0.5, 0.1, 1.0));
}

TEST(RequireInRange, NamesTheOptionTheValueAndTheRange) {
  EXPECT_EQ(error_of<InvalidOption>([] { require_in_range("share", 1.25, 0.1, 1.0); }),
            "share = 1.25: expected a number in [0.1, 1]");
  EXPECT_EQ(error_of<InvalidOption>([] { require_in_range("steps", -3.0, 1.0, 1e9); }),
            "steps = -3: expected a number in [1, 1e+09]");
}

TEST(RequireInRange, RejectsWhatIsNotANumber) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(error_of<InvalidOption>([=] { require_in_range("share", nan, 0.0, 1.0); }),
            "share = nan: expected a number in [0, 1]");
  EXPECT_THROW(require_in_range("share", std::numeric_limits<double>::infinity(), 0.0, 1.0),
               InvalidOption);
}

TEST(Errors, AreOneFamily) {
  EXPECT_TRUE((std::is_base_of_v<Error, InvalidOption>));
  EXPECT_TRUE((std::is_base_of_v<Error, UnknownHandle>));
  EXPECT_TRUE((std::is_base_of_v<Error, InvariantViolation>));
  EXPECT_TRUE((std::is_base_of_v<std::runtime_error, Error>));
}

}  // namespace
}  // namespace lamps
