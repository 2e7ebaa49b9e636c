// SPDX-License-Identifier: Apache-2.0
#include "lamps/prompt_classes.h"

#include <algorithm>

namespace lamps {
namespace {

constexpr int kEnough = 3;                  // sessions that make a class
constexpr std::size_t kMostKnown = 16'384;  // beginnings remembered: about 1 MiB

// Multiply and xor-shift over 64 bits (the finaliser of SplitMix64).
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

std::vector<std::uint64_t> PromptClasses::beginnings(std::span<const std::int32_t> tokens) {
  std::vector<std::uint64_t> hashes;
  std::uint64_t hash = 0;
  std::size_t next = kShortest;
  const std::size_t end = std::min(tokens.size(), kLongest);
  for (std::size_t i = 0; i < end; ++i) {
    hash = mix(hash + 0x9e3779b97f4a7c15ULL + static_cast<std::uint32_t>(tokens[i]));
    if (i + 1 == next) {
      hashes.push_back(hash);
      next *= 2;
    }
  }
  return hashes;
}

void PromptClasses::drop_rare() {
  std::erase_if(known_, [](const auto& entry) { return entry.second.id == kNoClass; });
}

ClassId PromptClasses::classify(std::span<const std::uint64_t> beginnings) {
  if (known_.size() + beginnings.size() > kMostKnown) drop_rare();
  ClassId found = kNoClass;
  for (const std::uint64_t hash : beginnings) {
    Beginning& beginning = known_[hash];
    if (beginning.sessions >= kEnough) {
      if (beginning.id == kNoClass && next_ < kMostClasses) beginning.id = next_++;
      if (beginning.id != kNoClass) found = beginning.id;
    } else {
      ++beginning.sessions;
    }
  }
  return found;
}

void PromptClasses::each_class(const std::function<void(ClassId, std::uint64_t)>& write) const {
  std::vector<std::pair<ClassId, std::uint64_t>> classes;
  for (const auto& [hash, beginning] : known_) {
    if (beginning.id != kNoClass) classes.emplace_back(beginning.id, hash);
  }
  std::sort(classes.begin(), classes.end());
  for (const auto& [id, hash] : classes) write(id, hash);
}

void PromptClasses::restore(ClassId id, std::uint64_t beginning) {
  known_[beginning] = {kEnough, id};
  next_ = std::max(next_, id + 1);
}

}  // namespace lamps
