// SPDX-License-Identifier: Apache-2.0
// Bodies of the CPU kernels, compiled once per instruction set (cpu_kernels_*.cc). Everything is
// in an unnamed namespace and uses no inline function of the standard library: a function compiled
// here for newer instructions must never be the copy that the linker keeps for everyone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "swap/planner.h"

namespace lamps::swap {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kStep = 256;  // bytes per turn of the inner loop

// How far ahead sources are fetched. Measured with 2 KiB to 2 MiB pages in random order: 8 KiB is
// within 5 % of the best distance everywhere, and 1.1 to 1.5 times no distance at all below 128
// KiB.
constexpr std::size_t kAhead = 8192;

[[maybe_unused]] const std::byte* bytes_at(Address address) {
  return reinterpret_cast<const std::byte*>(address);
}

// `Vector` has load, stream (a store past the caches, aligned to its width), fetch and kWidth.
template <typename Vector>
[[maybe_unused]] void copy_step(std::byte* target, const std::byte* source) {
  typename Vector::Value value[kStep / Vector::kWidth];
  for (std::size_t i = 0; i < kStep / Vector::kWidth; ++i) {
    value[i] = Vector::load(source + i * Vector::kWidth);
  }
  for (std::size_t i = 0; i < kStep / Vector::kWidth; ++i) {
    Vector::stream(target + i * Vector::kWidth, value[i]);
  }
}

// Copies `bytes` (a multiple of kStep); `ahead` is what to fetch meanwhile, as long as the copy.
template <typename Vector>
[[maybe_unused]] void copy_steps(std::byte* target, const std::byte* source, std::size_t bytes,
                                 const std::byte* ahead) {
  for (std::size_t at = 0; at < bytes; at += kStep) {
    for (std::size_t line = 0; line < kStep; line += kLine) Vector::fetch(ahead + at + line);
    copy_step<Vector>(target + at, source + at);
  }
}

// `next`: the source of the following move, fetched while the end of this one is copied.
template <typename Vector>
[[maybe_unused]] void copy_move(const Move& move, const std::byte* next) {
  auto* target = reinterpret_cast<std::byte*>(move.target);
  const std::byte* source = bytes_at(move.source);
  std::size_t bytes = move.bytes;
  const std::size_t head = (kLine - move.target % kLine) % kLine;  // up to an aligned store
  if (bytes < head + kStep) {
    std::memcpy(target, source, bytes);
    return;
  }
  std::memcpy(target, source, head);
  target += head;
  source += head;
  bytes -= head;
  const std::size_t whole = bytes / kStep * kStep;
  const std::size_t inside = whole > kAhead ? (whole - kAhead) / kStep * kStep : 0;
  copy_steps<Vector>(target, source, inside, source + kAhead);
  copy_steps<Vector>(target + inside, source + inside, whole - inside, next);
  std::memcpy(target + whole, source + whole, bytes - whole);
}

template <typename Vector>
[[maybe_unused]] void copy_moves(const Move* moves, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    // Fetching does not fault, so it may run past the end of a shorter next page.
    copy_move<Vector>(moves[i], bytes_at(moves[i + 1 < count ? i + 1 : i].source));
  }
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
