// SPDX-License-Identifier: Apache-2.0
// Bodies of the CPU kernels, compiled once per instruction set (cpu_kernels_*.cc). Everything is
// in an unnamed namespace and uses no inline function of the standard library: a function compiled
// here for newer instructions must never be the copy that the linker keeps for everyone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "swap/moves.h"

namespace lamps::swap {
namespace {

constexpr std::size_t kLine = 64;

// How far ahead of the copy sources are fetched. Measured on Zen 5 with random pages of 1 KiB to 1
// MiB: 20 KiB is the best distance from 64 KiB up (8 KiB loses 5 %) and within a tenth of it below.
constexpr std::size_t kAhead = 20 << 10;

[[maybe_unused]] const std::byte* bytes_at(Address address) {
  return reinterpret_cast<const std::byte*>(address);
}

[[maybe_unused]] std::size_t lines_of(std::uint64_t bytes) { return (bytes + kLine - 1) / kLine; }

// Goes through the sources of all moves, line by line, whatever the sizes of moves are.
class Sources {
 public:
  Sources(const Move* moves, std::size_t count) : next_(moves), end_(moves + count) {}

  struct Run {
    const std::byte* at;
    std::size_t lines;
  };
  // The next lines that lie in sequence, at most `lines`; at `otherwise` where no more are left.
  Run take(std::size_t lines, const std::byte* otherwise) {
    for (; left_ == 0 && next_ != end_; ++next_) {
      at_ = bytes_at(next_->source);
      left_ = lines_of(next_->bytes);
    }
    if (left_ == 0) return {otherwise, lines};
    const Run run{at_, lines < left_ ? lines : left_};
    at_ += run.lines * kLine;
    left_ -= run.lines;
    return run;
  }

 private:
  const Move* next_;
  const Move* end_;
  const std::byte* at_ = nullptr;
  std::size_t left_ = 0;  // lines from at_ on
};

template <typename Vector>
[[maybe_unused]] void fetch_lines(Sources& ahead, std::size_t lines) {
  while (lines > 0) {
    const Sources::Run run = ahead.take(lines, nullptr);
    if (run.at == nullptr) return;
    for (std::size_t i = 0; i < run.lines; ++i) Vector::fetch(run.at + i * kLine);
    lines -= run.lines;
  }
}

// Line by line: fetches `ahead`, copies. `Vector` has load, stream (a store past the caches,
// aligned to its width), fetch and kWidth. One loop for all there is to copy: with a second one
// for the ends of pages, loads of 32 to 256 KiB pages were a fifth slower on Zen 5.
template <typename Vector>
[[maybe_unused]] void copy_lines(std::byte* target, const std::byte* source, std::size_t lines,
                                 const std::byte* ahead) {
  constexpr std::size_t kVectors = kLine / Vector::kWidth;
  for (std::size_t at = 0; at < lines * kLine; at += kLine) {
    Vector::fetch(ahead + at);
    typename Vector::Value value[kVectors];
    for (std::size_t i = 0; i < kVectors; ++i) {
      value[i] = Vector::load(source + at + i * Vector::kWidth);
    }
    for (std::size_t i = 0; i < kVectors; ++i) {
      Vector::stream(target + at + i * Vector::kWidth, value[i]);
    }
  }
}

// Takes as many lines from `ahead` as the move has.
template <typename Vector>
[[maybe_unused]] void copy_move(const Move& move, Sources& ahead) {
  auto* target = reinterpret_cast<std::byte*>(move.target);
  const std::byte* source = bytes_at(move.source);
  const std::size_t head = (kLine - move.target % kLine) % kLine;  // up to an aligned store
  if (move.bytes < head + kLine) {
    fetch_lines<Vector>(ahead, lines_of(move.bytes));
    std::memcpy(target, source, move.bytes);
    return;
  }
  if (head > 0) std::memcpy(target, source, head);
  target += head;
  source += head;
  const std::size_t lines = (move.bytes - head) / kLine;
  for (std::size_t left = lines; left > 0;) {
    const Sources::Run run = ahead.take(left, source);
    copy_lines<Vector>(target, source, run.lines, run.at);
    target += run.lines * kLine;
    source += run.lines * kLine;
    left -= run.lines;
  }
  const std::size_t tail = move.bytes - head - lines * kLine;
  if (tail > 0) std::memcpy(target, source, tail);
  fetch_lines<Vector>(ahead, lines_of(move.bytes) - lines);
}

template <typename Vector>
[[maybe_unused]] void copy_moves(const Move* moves, std::size_t count) {
  Sources ahead(moves, count);
  fetch_lines<Vector>(ahead, kAhead / kLine);
  for (std::size_t i = 0; i < count; ++i) copy_move<Vector>(moves[i], ahead);
  Vector::fence();
}

// Eight independent lanes of 64 bits. Each word is keyed by its position, its halves are
// multiplied, and the sum takes the word as well, so that no half is lost when the other is zero.
constexpr std::size_t kLanes = 8;
constexpr std::uint64_t kLaneKey = 0x9e3779b97f4a7c15U;    // 2^64 / golden ratio, odd
constexpr std::uint64_t kStripeKey = 0xd6e8feb86659fd93U;  // odd, unrelated to the above

[[maybe_unused]] std::uint64_t mixed(std::uint64_t value) {
  value ^= value >> 32;
  value *= kStripeKey;
  value ^= value >> 29;
  value *= kLaneKey;
  return value ^ (value >> 32);
}

[[maybe_unused]] void sum_stripe(std::uint64_t* sums, const std::byte* data, std::uint64_t key) {
  std::uint64_t words[kLanes];
  std::memcpy(words, data, sizeof(words));
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const std::uint64_t keyed = words[lane] ^ (key + lane * kLaneKey);
    sums[lane] += (keyed & 0xffffffffU) * (keyed >> 32) + (words[lane] << 32 | words[lane] >> 32);
  }
}

[[maybe_unused]] std::uint64_t checksum_of(const void* data, std::size_t bytes,
                                           std::uint64_t seed) {
  const auto* at = static_cast<const std::byte*>(data);
  std::uint64_t sums[kLanes] = {};
  std::uint64_t key = mixed(seed + kLaneKey);
  const std::size_t stripe = kLanes * sizeof(std::uint64_t);
  std::size_t left = bytes;
  for (; left >= stripe; left -= stripe, at += stripe, key += kStripeKey) {
    sum_stripe(sums, at, key);
  }
  if (left > 0) {
    std::byte padded[kLanes * sizeof(std::uint64_t)] = {};
    std::memcpy(padded, at, left);
    sum_stripe(sums, padded, key);
  }
  std::uint64_t result = mixed(seed ^ bytes);
  for (std::size_t lane = 0; lane < kLanes; ++lane) result = mixed(result + sums[lane]);
  return result;
}

}  // namespace
}  // namespace lamps::swap
