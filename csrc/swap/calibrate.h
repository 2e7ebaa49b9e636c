// SPDX-License-Identifier: Apache-2.0
// Measures which path is right for which size, and how fast that is, on the device at hand. Worth
// keeping per device, driver and link.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "swap/backend.h"

namespace lamps::swap {

// As much memory on both sides, unused by anyone. The host's must be attached to the backend.
struct Scratch {
  Address device = 0;
  Address host = 0;
  Bytes bytes = 0;
};

// Bytes per second of copies of one size, in random order on the device; 0 for a path that is not
// used: the device lacks it, or its bytes were wrong.
struct Rate {
  Direction direction = Direction::kStore;
  Bytes page = 0;
  std::array<double, kPaths> per_path{};
};

struct Measured {
  Calibration calibration;
  std::vector<Rate> rates;
};

// After this time no new round of trials begins; there are two at least, five at most.
inline constexpr Seconds kCalibrationTime = 0.3;

// Every path is made to prove itself first: bytes go there and back, and one that garbles them is
// left out. Nothing else may use the backend meanwhile. Throws InvalidOption unless the scratch
// memory has 1 MiB or more, DeviceError if not even direct copies work.
[[nodiscard]] Measured calibrate(Backend& backend, const Scratch& scratch,
                                 const std::function<Seconds()>& clock);

// The thresholds that follow from rates alone, of pages in ascending order per direction.
[[nodiscard]] Calibration calibration_from(const std::vector<Rate>& rates);

// Bytes per second of many copies of rate.page bytes, by the path that is chosen for them.
[[nodiscard]] double chosen_rate(const Calibration& calibration, const Rate& rate);

}  // namespace lamps::swap
