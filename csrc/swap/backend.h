// SPDX-License-Identifier: Apache-2.0
// What a mover needs of a device. The CPU backend is the reference; a CUDA one is built where there
// is nvcc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "swap/moves.h"

namespace lamps::swap {

using Mark = std::int64_t;    // a point in the device's own order of work
using Ticket = std::int64_t;  // a slice that was started
inline constexpr Mark kNoMark = 0;

struct Slice {
  Direction direction = Direction::kStore;
  Path path = Path::kDirect;
  std::span<const Move> moves;  // must stay until the slice is over; no two targets overlap
  Mark after = kNoMark;         // starts when the device has come to this point
};

// In the order a slice passes through them.
enum class SliceState : std::uint8_t {
  kRunning,
  kSourceFree,  // the source has been read; the target is not complete yet
  kDone,
  kFailed,
};

// The mover keeps this many started per direction: one runs, one waits behind it.
inline constexpr std::size_t kSlicesInFlight = 2;

class Backend {
 public:
  virtual ~Backend() = default;

  // Prepares host memory for copies (locks it). Once, before anything else. Throws OutOfHostMemory
  // or DeviceError.
  virtual void attach(Address host, Bytes bytes) = 0;

  // A point behind all work given to `stream` (a device's stream handle) so far. Called by the
  // submitting thread, any other function by the mover's thread. Throws DeviceError.
  virtual Mark mark(std::uint64_t stream) = 0;
  virtual void release(Mark mark) = 0;

  // The path that will really be taken where `path` was chosen.
  [[nodiscard]] virtual Path usable(Path path, Direction direction) const = 0;
  [[nodiscard]] virtual SliceLimit slice_limit() const = 0;
  // Starts a slice, or copies all of it when synchronous(). Does not throw: see state().
  virtual Ticket start(const Slice& slice) = 0;
  // Once it is kDone or kFailed the ticket is void.
  virtual SliceState state(Ticket ticket) = 0;

  [[nodiscard]] virtual bool synchronous() const = 0;
  // Whether the CPU can read device pages, so that checksums cover the whole way.
  [[nodiscard]] virtual bool device_readable() const = 0;
};

}  // namespace lamps::swap
