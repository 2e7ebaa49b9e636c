// SPDX-License-Identifier: Apache-2.0
// A pretended device for swap tests: blocks of bytes in ordinary memory, every byte known.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "swap/layout.h"

namespace lamps::swap::testing {

// How the pages of a block lie in the device's memory.
enum class Shape {
  kBlockFirst,    // all pages of a block together
  kLayerFirst,    // all blocks of a layer together
  kPaddedLayers,  // the same, with unused bytes behind every page
};

class Device {
 public:
  Device(Shape shape, int layers, Bytes page, BlockId blocks)
      : padding_(shape == Shape::kPaddedLayers ? 24 : 0),
        memory_(static_cast<std::size_t>((page + padding_) * layers * blocks)),
        layout_(regions(shape, layers, page, blocks), blocks) {}

  Device(const Device&) = delete;  // the layout has its address
  Device& operator=(const Device&) = delete;

  [[nodiscard]] const Layout& layout() const { return layout_; }

  // Every byte of every block depends on the block, on where it is, and on `version`.
  void fill(unsigned version) {
    std::uint32_t state = 2 * version + 1;  // a short generator: this is most of a test's time
    for (std::byte& byte : memory_) byte = static_cast<std::byte>((state *= 747796405U) >> 24);
  }
  void poison(BlockId block) {
    for (const Region& region : layout_.regions()) {
      std::fill_n(page(region, block), region.page, std::byte{0xee});
    }
  }
  [[nodiscard]] std::vector<std::byte> read(BlockId block) const {
    std::vector<std::byte> bytes;
    for (const Region& region : layout_.regions()) {
      bytes.insert(bytes.end(), page(region, block), page(region, block) + region.page);
    }
    return bytes;
  }
  [[nodiscard]] std::vector<std::vector<std::byte>> read_all() const {
    std::vector<std::vector<std::byte>> blocks;
    for (BlockId block = 0; block < layout_.blocks(); ++block) blocks.push_back(read(block));
    return blocks;
  }

 private:
  static std::byte* page(const Region& region, BlockId block) {
    return reinterpret_cast<std::byte*>(region.base + static_cast<Address>(region.stride * block));
  }
  std::vector<Region> regions(Shape shape, int layers, Bytes page, BlockId blocks) {
    std::vector<Region> out;
    const auto base = reinterpret_cast<Address>(memory_.data());
    const Bytes step = page + padding_;
    for (int layer = 0; layer < layers; ++layer) {
      if (shape == Shape::kBlockFirst) {
        out.push_back({base + static_cast<Address>(page * layer), page * layers, page});
      } else {
        out.push_back({base + static_cast<Address>(step * blocks * layer), step, page});
      }
    }
    return out;
  }

  Bytes padding_;
  std::vector<std::byte> memory_;
  Layout layout_;
};

// `count` different blocks of [0, limit): consecutive runs of up to `longest`, up or down, in
// random order.
inline std::vector<BlockId> random_blocks(std::mt19937& random, BlockId limit, std::size_t count,
                                          std::size_t longest) {
  std::vector<BlockId> all(static_cast<std::size_t>(limit));
  std::iota(all.begin(), all.end(), 0);
  std::vector<std::vector<BlockId>> runs;
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t length = std::min(all.size() - at, 1 + random() % longest);
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(at);
    runs.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(length));
    if (random() % 2 == 0) std::reverse(runs.back().begin(), runs.back().end());
    at += length;
  }
  std::shuffle(runs.begin(), runs.end(), random);
  std::vector<BlockId> blocks;
  for (const auto& run : runs) blocks.insert(blocks.end(), run.begin(), run.end());
  blocks.resize(count);
  return blocks;
}

}  // namespace lamps::swap::testing
