// SPDX-License-Identifier: Apache-2.0
#include "swap/calibrate.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>

#include "swap/errors.h"

namespace lamps::swap {
namespace {

constexpr Bytes kSmallest = 4 << 10, kLargest = 1 << 20;
constexpr Bytes kPerTrial = 16 << 20;
constexpr int kTrials = 3;        // the fastest counts: others were disturbed
constexpr double kAsGood = 0.95;  // of the rival's rate: copy engines leave the SMs to the engine
constexpr Bytes kSmallPages = 32 << 10;  // up to here kernels compete

std::size_t index_of(Path path) { return static_cast<std::size_t>(path); }

// Every other page of the scratch memory would be a pattern; steps by an odd number are not.
std::vector<Move> scattered(const Scratch& scratch, Direction direction, Bytes page) {
  const Bytes pages = std::min(scratch.bytes, kPerTrial) / page;
  Bytes step = static_cast<Bytes>(static_cast<double>(pages) * 0.618) | 1;
  while (std::gcd(step, pages) != 1) step += 2;
  std::vector<Move> moves;
  for (Bytes i = 0; i < pages; ++i) {
    const Address device = scratch.device + static_cast<Address>(i * step % pages * page);
    const Address host = scratch.host + static_cast<Address>(i * page);
    const auto bytes = static_cast<std::uint64_t>(page);
    moves.push_back(direction == Direction::kStore ? Move{device, host, bytes}
                                                   : Move{host, device, bytes});
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
    const auto size = static_cast<std::size_t>(std::min(scratch_.bytes, kPerTrial) / page * page);
    auto* host = reinterpret_cast<std::uint8_t*>(scratch_.host);
    const auto byte = [](std::size_t i) {
      return static_cast<std::uint8_t>((i * 2654435761U) >> 13);
    };
    for (std::size_t i = 0; i < size; ++i) host[i] = byte(i);
    const bool store = direction == Direction::kStore;
    const bool there = carry_out(backend_, Direction::kLoad, store ? Path::kDirect : path,
                                 scattered(scratch_, Direction::kLoad, page));
    std::memset(host, 0xee, size);
    const bool back = carry_out(backend_, Direction::kStore, store ? path : Path::kDirect,
                                scattered(scratch_, Direction::kStore, page));
    for (std::size_t i = 0; i < size; ++i) {
      if (host[i] != byte(i)) return false;
    }
    return there && back;
  }

  [[nodiscard]] double rate(Direction direction, Path path, Bytes page) {
    const std::vector<Move> moves = scattered(scratch_, direction, page);
    Seconds best = kForever;
    for (int trial = 0; trial < kTrials; ++trial) {
      const Seconds begin = clock_();
      if (!carry_out(backend_, direction, path, moves)) return 0;
      best = std::min(best, clock_() - begin);
    }
    return static_cast<double>(page) * static_cast<double>(moves.size()) / std::max(best, 1e-9);
  }

 private:
  Backend& backend_;
  Scratch scratch_;
  const std::function<Seconds()>& clock_;
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

Measured calibrate(Backend& backend, const Scratch& scratch,
                   const std::function<Seconds()>& clock) {
  require_in_range("scratch bytes", static_cast<double>(scratch.bytes),
                   static_cast<double>(kLargest), 0x1p40);
  Calibrator calibrator(backend, scratch, clock);
  Measured measured;
  for (const Direction direction : {Direction::kStore, Direction::kLoad}) {
    std::array<bool, kPaths> works{};
    for (int path = 0; path < kPaths; ++path) {
      works[static_cast<std::size_t>(path)] = calibrator.works(direction, static_cast<Path>(path));
    }
    if (!works[index_of(Path::kDirect)]) {
      throw DeviceError(std::string("calibration: direct copies, ") + to_string(direction) +
                        ", do not bring back what was written");
    }
    for (Bytes page = kSmallest; page <= kLargest; page *= 2) {
      Rate rate{direction, page, {}};
      for (int path = 0; path < kPaths; ++path) {
        const auto index = static_cast<std::size_t>(path);
        if (works[index]) {
          rate.per_path[index] = calibrator.rate(direction, static_cast<Path>(path), page);
        }
      }
      measured.rates.push_back(rate);
    }
  }
  measured.calibration = calibration_from(measured.rates);
  return measured;
}

}  // namespace lamps::swap
