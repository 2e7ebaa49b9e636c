// SPDX-License-Identifier: Apache-2.0
#include "swap/calibrate.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>
#include <utility>

#include "swap/errors.h"

namespace lamps::swap {
namespace {

constexpr Bytes kSmallest = 4 << 10, kLargest = 1 << 20;
constexpr Bytes kPerTrial = 16 << 20;
constexpr Bytes kPerProof = 4 << 20;
// Of all sizes and paths, so that a disturbance meets few trials of one; the fastest counts.
constexpr int kRounds = 5, kLeastRounds = 2;
constexpr double kAsGood = 0.95;  // of the rival's rate: copy engines leave the SMs to the engine
constexpr Bytes kSmallPages = 32 << 10;  // up to here kernels compete

std::size_t index_of(Path path) { return static_cast<std::size_t>(path); }

// All pages of `bytes` bytes of the scratch memory from `first` on. Every other page would be a
// pattern; steps by an odd number are not.
std::vector<Move> scattered(const Scratch& scratch, Bytes first, Bytes bytes, Direction direction,
                            Bytes page) {
  const Bytes pages = bytes / page;
  Bytes step = static_cast<Bytes>(static_cast<double>(pages) * 0.618) | 1;
  while (std::gcd(step, pages) != 1) step += 2;
  std::vector<Move> moves;
  for (Bytes i = 0; i < pages; ++i) {
    const Address device = scratch.device + static_cast<Address>(first + i * step % pages * page);
    const Address host = scratch.host + static_cast<Address>(first + i * page);
    const auto size = static_cast<std::uint64_t>(page);
    moves.push_back(direction == Direction::kStore ? Move{device, host, size}
                                                   : Move{host, device, size});
  }
  return moves;
}

// In slices, one at a time; whether all went well.
bool carry_out(Backend& backend, Direction direction, Path path, std::span<const Move> moves) {
  const SliceLimit limit = backend.slice_limit();
  while (!moves.empty()) {
    std::size_t count = 1;
    for (auto bytes = static_cast<Bytes>(moves[0].bytes);
         count < std::min(moves.size(), limit.moves); ++count) {
      bytes += static_cast<Bytes>(moves[count].bytes);
      if (bytes > limit.bytes) break;
    }
    const Ticket ticket = backend.start({direction, path, moves.first(count), kNoMark});
    SliceState state = SliceState::kRunning;
    while (state != SliceState::kDone && state != SliceState::kFailed) {
      state = backend.state(ticket);
    }
    if (state == SliceState::kFailed) return false;
    moves = moves.subspan(count);
  }
  return true;
}

class Calibrator {
 public:
  Calibrator(Backend& backend, const Scratch& scratch, const std::function<Seconds()>& clock)
      : backend_(backend), scratch_(scratch), clock_(clock) {}

  [[nodiscard]] bool works(Direction direction, Path path) {
    if (backend_.usable(path, direction) != path) return false;
    // Odd enough for the ends of units, aligned as KV pages are.
    const Bytes page = 20'496;
    const Bytes bytes = std::min(scratch_.bytes, kPerProof);
    const auto size = static_cast<std::size_t>(bytes / page * page);
    auto* host = reinterpret_cast<std::uint8_t*>(scratch_.host);
    const auto byte = [](std::size_t i) {
      return static_cast<std::uint8_t>((i * 2654435761U) >> 13);
    };
    for (std::size_t i = 0; i < size; ++i) host[i] = byte(i);
    const bool store = direction == Direction::kStore;
    const bool there = carry_out(backend_, Direction::kLoad, store ? Path::kDirect : path,
                                 scattered(scratch_, 0, bytes, Direction::kLoad, page));
    std::memset(host, 0xee, size);
    const bool back = carry_out(backend_, Direction::kStore, store ? path : Path::kDirect,
                                scattered(scratch_, 0, bytes, Direction::kStore, page));
    for (std::size_t i = 0; i < size; ++i) {
      if (host[i] != byte(i)) return false;
    }
    return there && back;
  }

  // Of one trial; 0 if it failed.
  [[nodiscard]] double rate(Direction direction, Path path, Bytes page) {
    // Through all of the scratch memory in turn: what earlier trials left in caches is no help.
    const Bytes bytes = std::min(scratch_.bytes, kPerTrial);
    if (next_ + bytes > scratch_.bytes) next_ = 0;
    const std::vector<Move> moves = scattered(scratch_, next_, bytes, direction, page);
    next_ += bytes;
    const Seconds begin = clock_();
    if (!carry_out(backend_, direction, path, moves)) return 0;
    return static_cast<double>(bytes / page * page) / std::max(clock_() - begin, 1e-9);
  }

 private:
  Backend& backend_;
  Scratch scratch_;
  const std::function<Seconds()>& clock_;
  Bytes next_ = 0;  // where the next trial begins
};

// The path with the highest rate over all small pages: of geometric means, as ratios count.
Path best_small(std::span<const Rate> rates, Path fallback) {
  Path best = fallback;
  double highest = -1;
  for (const Path path : {Path::kStaged, Path::kZeroCopy, Path::kBulk}) {
    double sum = 0;
    for (const Rate& rate : rates) {
      const double measured = rate.per_path[index_of(path)];
      if (rate.page <= kSmallPages) sum += measured > 0 ? std::log(measured) : -1e9;
    }
    if (sum > highest) highest = sum, best = path;
  }
  return best;
}

// The smallest page from which on `path` is as good as `rival`.
Bytes from_where(std::span<const Rate> rates, Path path, Path rival) {
  Bytes from = kLargest * 2;
  for (auto rate = rates.rbegin(); rate != rates.rend(); ++rate) {
    if (rate->per_path[index_of(path)] < kAsGood * rate->per_path[index_of(rival)]) break;
    from = rate->page;
  }
  return from;
}

}  // namespace

Calibration calibration_from(const std::vector<Rate>& rates) {
  Calibration out;
  const auto of = [&](Direction direction) {
    std::vector<Rate> some;
    for (const Rate& rate : rates) {
      if (rate.direction == direction) some.push_back(rate);
    }
    return some;
  };
  const std::vector<Rate> stores = of(Direction::kStore), loads = of(Direction::kLoad);
  out.small_store = best_small(stores, Path::kBatch);
  out.small_load = best_small(loads, Path::kBatch);
  out.store_batch_min = from_where(stores, Path::kBatch, out.small_store);
  out.load_batch_min = from_where(loads, Path::kBatch, out.small_load);
  out.direct_min = std::max(from_where(stores, Path::kDirect, Path::kBatch),
                            from_where(loads, Path::kDirect, Path::kBatch));
  return out;
}

double chosen_rate(const Calibration& calibration, const Rate& rate) {
  const std::int64_t many = calibration.direct_moves + 1;
  const Path path = choose_path(calibration, rate.direction, many, many * rate.page);
  const double measured = rate.per_path[index_of(path)];
  return measured > 0 ? measured : rate.per_path[index_of(Path::kDirect)];  // what stands in for it
}

Measured calibrate(Backend& backend, const Scratch& scratch,
                   const std::function<Seconds()>& clock) {
  require_in_range("scratch bytes", static_cast<double>(scratch.bytes),
                   static_cast<double>(kLargest), 0x1p40);
  Calibrator calibrator(backend, scratch, clock);
  std::vector<std::pair<Direction, Path>> working;
  for (const Direction direction : {Direction::kStore, Direction::kLoad}) {
    for (int path = 0; path < kPaths; ++path) {
      if (calibrator.works(direction, static_cast<Path>(path))) {
        working.emplace_back(direction, static_cast<Path>(path));
      } else if (path == static_cast<int>(Path::kDirect)) {
        throw DeviceError(std::string("calibration: direct copies, ") + to_string(direction) +
                          ", do not bring back what was written");
      }
    }
  }
  Measured measured;
  for (const Direction direction : {Direction::kStore, Direction::kLoad}) {
    for (Bytes page = kSmallest; page <= kLargest; page *= 2) {
      measured.rates.push_back({direction, page, {}});
    }
  }
  const Seconds end = clock() + kCalibrationTime;
  for (int round = 0; round < kRounds && (round < kLeastRounds || clock() < end); ++round) {
    for (Rate& rate : measured.rates) {
      for (const auto& [direction, path] : working) {
        if (direction != rate.direction) continue;
        double& best = rate.per_path[index_of(path)];
        best = std::max(best, calibrator.rate(direction, path, rate.page));
      }
    }
  }
  measured.calibration = calibration_from(measured.rates);
  return measured;
}

}  // namespace lamps::swap
