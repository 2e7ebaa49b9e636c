// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <vector>

#include "lamps/errors.h"
#include "sim/block_pool.h"

namespace lamps::sim {
namespace {

TEST(BlockPool, TakesBlankBlocksBeforeItEvicts) {
  BlockPool pool(10);
  const ChainId chain = pool.open(0);
  pool.take(4);
  EXPECT_EQ(pool.extend(chain, 0, 4), 0);
  pool.release(chain, 4);
  EXPECT_EQ(pool.free(), 10);
  EXPECT_EQ(pool.blank(), 6);
  pool.take(6);
  EXPECT_EQ(pool.cached(chain), 4);
  pool.take(1);  // the end of the chain goes first
  EXPECT_EQ(pool.cached(chain), 3);
  pool.check_invariants(7);
}

TEST(BlockPool, EvictsWhatWasLetGoFirst) {
  BlockPool pool(6);
  const ChainId a = pool.open(0), b = pool.open(0);
  pool.take(6);
  EXPECT_EQ(pool.extend(a, 0, 3), 0);
  EXPECT_EQ(pool.extend(b, 0, 3), 0);
  pool.release(b, 3);
  pool.release(a, 3);
  pool.take(4);
  EXPECT_EQ(pool.cached(b), 0);
  EXPECT_EQ(pool.cached(a), 2);
  pool.check_invariants(4);
}

TEST(BlockPool, AHitTakesBlocksOutOfTheFreeQueue) {
  BlockPool pool(6);
  const ChainId chain = pool.open(0);
  pool.take(6);
  EXPECT_EQ(pool.extend(chain, 0, 6), 0);
  pool.release(chain, 6);
  pool.acquire(chain, 4);
  EXPECT_EQ(pool.free(), 2);
  EXPECT_EQ(pool.referenced(chain), 4);
  pool.take(2);
  EXPECT_EQ(pool.cached(chain), 4);
  pool.check_invariants(2);
}

TEST(BlockPool, SharedBlocksStayUntilTheLastReferenceGoes) {
  BlockPool pool(8);
  const ChainId group = pool.open(0);
  pool.take(4);
  EXPECT_EQ(pool.extend(group, 0, 4), 0);
  pool.acquire(group, 2);
  EXPECT_EQ(pool.unique(group, 4), 2);
  EXPECT_EQ(pool.unique(group, 2), 0);
  pool.release(group, 4);
  EXPECT_EQ(pool.free(), 6);
  EXPECT_EQ(pool.unique(group, 2), 2);
  pool.release(group, 2);
  EXPECT_EQ(pool.free(), 8);
  EXPECT_EQ(pool.cached(group), 4);
  pool.check_invariants(0);
}

TEST(BlockPool, WhatIsReleasedFirstIsEvictedFirstAndFromItsEnd) {
  BlockPool pool(8);
  const ChainId older = pool.open(0);
  const ChainId other = pool.open(0);
  for (const ChainId each : {older, other}) {
    pool.take(4);
    EXPECT_EQ(pool.extend(each, 0, 4), 0);
  }
  pool.release(older, 4);
  pool.release_first(other, 4);
  pool.check_invariants(0);
  pool.take(3);
  EXPECT_EQ(pool.cached(other), 1);
  EXPECT_EQ(pool.cached(older), 4);
  pool.acquire(other, 1);
  pool.take(1);
  EXPECT_EQ(pool.cached(older), 3);
  pool.release(other, 1);
  pool.check_invariants(4);
}

TEST(BlockPool, WhatFollowsBlocksReleasedFirstIsNotHitWithoutThem) {
  BlockPool pool(8);
  const ChainId chain = pool.open(0);
  pool.take(6);
  EXPECT_EQ(pool.extend(chain, 0, 6), 0);
  pool.acquire(chain, 2);
  pool.release(chain, 6);
  pool.release_first(chain, 2);
  EXPECT_EQ(pool.cached(chain), 2);
  EXPECT_EQ(pool.free(), 8);
  pool.check_invariants(0);
}

TEST(BlockPool, ContentComputedAgainHidesTheOlderCopy) {
  BlockPool pool(8);
  const ChainId chain = pool.open(0);
  pool.take(4);
  EXPECT_EQ(pool.extend(chain, 0, 4), 0);
  pool.release(chain, 4);
  pool.acquire(chain, 3);  // the last block cannot be hit: its last token is wanted
  pool.take(1);
  EXPECT_EQ(pool.extend(chain, 3, 4), 0);
  EXPECT_EQ(pool.free(), 4);
  pool.release(chain, 4);
  pool.check_invariants(0);
  pool.take(4);  // three blank ones and the hidden copy
  EXPECT_EQ(pool.cached(chain), 4);
  pool.take(1);
  EXPECT_EQ(pool.cached(chain), 3);
}

TEST(BlockPool, CountsWhatDuplicatesOthersBlocks) {
  BlockPool pool(8);
  const ChainId group = pool.open(0);
  pool.take(6);
  EXPECT_EQ(pool.extend(group, 0, 3), 0);
  EXPECT_EQ(pool.extend(group, 0, 3), 3);  // somebody else computed the same three
  pool.check_invariants(3);
  pool.release(group, 3);
  pool.release(group, 3);
  pool.give_back_cached(3);
  EXPECT_EQ(pool.free(), 8);
  pool.check_invariants(0);
}

TEST(BlockPool, ReplacedContentKeepsItsPlaceButCannotBeHit) {
  BlockPool pool(10);
  const ChainId old = pool.open(0), chain = pool.open(0);
  pool.take(10);
  EXPECT_EQ(pool.extend(old, 0, 2), 0);
  EXPECT_EQ(pool.extend(chain, 0, 8), 0);
  pool.release(chain, 8);
  pool.release(old, 2);
  EXPECT_EQ(pool.cut(chain, 5), 0);
  EXPECT_EQ(pool.cached(chain), 5);
  pool.check_invariants(0);
  pool.take(3);  // the replaced ones
  EXPECT_EQ(pool.cached(chain), 5);
  pool.take(5);
  EXPECT_EQ(pool.cached(chain), 0);
  EXPECT_EQ(pool.cached(old), 2);
}

TEST(BlockPool, ReplacedBlocksInUseAreTheCallers) {
  BlockPool pool(8);
  const ChainId chain = pool.open(0);
  pool.take(8);
  EXPECT_EQ(pool.extend(chain, 0, 8), 0);
  EXPECT_EQ(pool.cut(chain, 5), 3);
  EXPECT_EQ(pool.referenced(chain), 5);
  pool.check_invariants(3);
  pool.give_back_cached(3);
  pool.release(chain, 5);
  EXPECT_EQ(pool.free(), 8);
  pool.check_invariants(0);
}

TEST(BlockPool, AClosedChainIsForgottenWithItsLastBlock) {
  BlockPool pool(4);
  const ChainId chain = pool.open(0);
  pool.take(4);
  EXPECT_EQ(pool.extend(chain, 0, 4), 0);
  pool.release(chain, 4);
  pool.close(chain);
  EXPECT_EQ(pool.chains(), 1U);
  pool.take(4);
  EXPECT_EQ(pool.chains(), 0U);
  EXPECT_EQ(pool.open(2), chain);
}

TEST(BlockPool, RefusesWhatItDoesNotHave) {
  BlockPool pool(2);
  EXPECT_THROW(pool.take(3), InvariantViolation);
  const ChainId chain = pool.open(0);
  EXPECT_THROW(pool.release(chain, 1), InvariantViolation);
  EXPECT_THROW(pool.check_invariants(1), InvariantViolation);
}

// The same pool block by block: each knows its content, the free queue is a list of blocks.
class PlainPool {
 public:
  explicit PlainPool(int total) : blocks_(static_cast<std::size_t>(total)) {
    for (int i = 0; i < total; ++i) free_.push_back(i);
  }
  using Content = std::pair<int, int>;  // chain, position

  std::vector<int> hit(int chain, int most) const {
    std::vector<int> found;
    for (int position = 0; position < most; ++position) {
      const auto place = cached_.find({chain, position});
      if (place == cached_.end()) break;
      found.push_back(place->second);
    }
    return found;
  }
  void touch(const std::vector<int>& blocks) {
    for (const int id : blocks) {
      if (block(id).references++ == 0) free_.erase(std::find(free_.begin(), free_.end(), id));
    }
  }
  int take() {
    const int id = free_.front();
    free_.pop_front();
    if (block(id).named) cached_.erase(block(id).content);
    block(id) = {};
    block(id).references = 1;
    return id;
  }
  void name(int id, Content content) {
    block(id).content = content;
    block(id).named = true;
    cached_[content] = id;
  }
  void free(const std::vector<int>& blocks) {  // of one turn, in order
    for (auto id = blocks.rbegin(); id != blocks.rend(); ++id) {
      if (--block(*id).references > 0) continue;
      if (block(*id).named) {
        free_.push_back(*id);
      } else {
        free_.push_front(*id);
      }
    }
  }
  int count() const { return static_cast<int>(free_.size()); }

 private:
  struct Block {
    int references = 0;
    bool named = false;
    Content content;
  };
  Block& block(int id) { return blocks_[static_cast<std::size_t>(id)]; }
  std::vector<Block> blocks_;
  std::deque<int> free_;
  std::map<Content, int> cached_;
};

TEST(BlockPool, AgreesWithAPoolOfSingleBlocks) {
  constexpr int kTotal = 40, kChains = 7;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    std::mt19937_64 random(seed);
    BlockPool pool(kTotal);
    PlainPool plain(kTotal);
    struct Turn {
      std::vector<int> blocks;
      Blocks named = 0;
    };
    std::vector<Turn> turns(kChains);
    for (int i = 0; i < kChains; ++i) ASSERT_EQ(pool.open(0), i);
    for (int step = 0; step < 400; ++step) {
      const auto chain = static_cast<ChainId>(random() % kChains);
      Turn& turn = turns[static_cast<std::size_t>(chain)];
      if (!turn.blocks.empty() && random() % 3 == 0) {
        pool.give_back_blank(static_cast<Blocks>(turn.blocks.size()) - turn.named);
        pool.release(chain, turn.named);
        plain.free(turn.blocks);
        turn = {};
      } else {
        if (turn.blocks.empty()) {
          turn.blocks = plain.hit(chain, kTotal);
          turn.named = static_cast<Blocks>(turn.blocks.size());
          ASSERT_EQ(pool.cached(chain), turn.named) << "seed " << seed << ", step " << step;
          plain.touch(turn.blocks);
          pool.acquire(chain, turn.named);
        }
        const auto wanted = static_cast<int>(random() % 6);
        if (wanted > plain.count()) continue;
        pool.take(wanted);
        for (int i = 0; i < wanted; ++i) turn.blocks.push_back(plain.take());
        const auto full = static_cast<Blocks>(turn.blocks.size()) - (random() % 2 ? 1 : 0);
        if (full > turn.named) {
          for (Blocks at = turn.named; at < full; ++at) {
            plain.name(turn.blocks[static_cast<std::size_t>(at)], {chain, static_cast<int>(at)});
          }
          ASSERT_EQ(pool.extend(chain, turn.named, full), 0);
          turn.named = full;
        }
      }
      ASSERT_EQ(pool.free(), plain.count());
      Blocks nameless = 0;
      for (const Turn& each : turns)
        nameless += static_cast<Blocks>(each.blocks.size()) - each.named;
      pool.check_invariants(nameless);
    }
  }
}

}  // namespace
}  // namespace lamps::sim
