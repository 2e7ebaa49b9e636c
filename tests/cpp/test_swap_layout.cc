// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>

#include "expect_error.h"
#include "lamps/errors.h"
#include "swap/layout.h"

namespace lamps::swap {
namespace {

using lamps::testing::error_of;

TEST(Layout, KeepsRegionsThatLieApart) {
  const Layout layout({{1000, 100, 100}, {9000, 64, 32}}, 10);
  EXPECT_EQ(layout.regions().size(), 2U);
  EXPECT_EQ(layout.row_bytes(), 132);
  EXPECT_EQ(layout.blocks(), 10);
}

TEST(Layout, JoinsRegionsThatFollowEachOtherInsideTheBlock) {
  const Layout layout({{1000, 96, 32}, {1032, 96, 32}, {1064, 96, 32}}, 10);
  ASSERT_EQ(layout.regions().size(), 1U);
  EXPECT_EQ(layout.regions()[0], (Region{1000, 96, 96}));
  EXPECT_EQ(layout.row_bytes(), 96);
}

TEST(Layout, NeverJoinsLayersOfGaplessBlocks) {
  // The second layer starts where block 1 of the first does: not a longer page.
  const Layout layout({{1000, 32, 32}, {1032, 32, 32}}, 1);
  EXPECT_EQ(layout.regions().size(), 2U);
}

TEST(Layout, PacksHostRowsRegionByRegion) {
  const Layout layout({{1000, 100, 100}, {9000, 64, 32}}, 10);
  std::vector<Region> host;
  layout.host_regions(5000, 4, host);
  EXPECT_EQ(host, (std::vector<Region>{{5000, 100, 100}, {5400, 32, 32}}));
}

TEST(Layout, CountsIn64Bits) {
  const Bytes page = Bytes{3} << 30;
  const Layout layout({{4096, page, page}, {Address{1} << 60, page, page}}, 100);
  EXPECT_EQ(layout.row_bytes(), Bytes{6} << 30);
  std::vector<Region> host;
  layout.host_regions(4096, 50, host);
  EXPECT_EQ(host[1].base, 4096 + (Address{150} << 30));
}

TEST(Layout, RefusesWhatCannotBe) {
  const auto made = [](std::vector<Region> regions, BlockId blocks) {
    return error_of<InvalidOption>([&] { Layout(std::move(regions), blocks); });
  };
  EXPECT_EQ(made({}, 4), "regions: expected one or more, got none");
  EXPECT_EQ(made({{8, 8, 8}}, 0), "blocks = 0: expected a number in [1, 2147483647]");
  EXPECT_EQ(made({{8, 8, 0}}, 4), "region 0 page = 0: expected 1 byte or more");
  EXPECT_EQ(made({{8, 8, 8}, {8, 7, 8}}, 4), "region 1 stride = 7: expected at least the page, 8");
  EXPECT_EQ(made({{0, 8, 8}}, 4), "region 0 base = 0: expected an address in [1, 2^63)");
  const Bytes huge = std::numeric_limits<Bytes>::max() / 4;
  EXPECT_EQ(made({{8, huge, 8}}, 5),
            "region 0 stride = 2305843009213693951: expected one with "
            "which 5 blocks end below 2^63");
}

}  // namespace
}  // namespace lamps::swap
