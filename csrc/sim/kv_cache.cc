// SPDX-License-Identifier: Apache-2.0
#include "sim/kv_cache.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace lamps::sim {
namespace {

constexpr Tokens kNoHash = std::numeric_limits<Tokens>::max();

std::size_t index_of(std::int32_t id) { return static_cast<std::size_t>(id); }

}  // namespace

KvCache::KvCache(const EngineModel& engine)
    : block_(engine.block_tokens),
      caching_(engine.prefix_caching),
      pool_(engine.blocks()),
      host_(engine) {}

KvCache::Owner& KvCache::owner(std::vector<Owner>& owners, std::int32_t id, Blocks base) {
  if (index_of(id) >= owners.size()) owners.resize(index_of(id) + 1);
  Owner& found = owners[index_of(id)];
  if (found.chain == kNoChain) {
    found.chain = pool_.open(base);
    found.base = base;
    if (host_.on()) found.entry = host_.open(base);
  }
  return found;
}

void KvCache::attach(Turn& turn, const TurnRequest& request) {
  const Blocks shared = request.group >= 0 ? request.shared_tokens / block_ : 0;
  const Owner& own = owner(clients_, request.client, shared);
  turn.chain = own.chain;
  turn.shared_blocks = own.base;
  turn.group_id = request.group;
  if (turn.shared_blocks > 0) turn.group = owner(groups_, request.group, 0).chain;
  turn.hash_at = caching_ ? block_ : kNoHash;
}

void KvCache::rewritten(ClientId client, Tokens kept, KeptBlocks* held, Turn* landing) {
  if (index_of(client) >= clients_.size()) return;
  Owner& own = clients_[index_of(client)];
  if (own.chain == kNoChain) return;
  const Blocks end = kept / block_;
  if (end < own.base) {  // nothing of its own is left
    client_gone(client);
    owner(clients_, client, end);
    return;
  }
  const Blocks beyond = pool_.cut(own.chain, end);
  if (own.entry != HostTier::kNoEntry) host_.cut(own.entry, end);
  if (beyond == 0) return;
  if (landing != nullptr) {  // they are unhashed blocks of it from now on
    landing->hashed = end;
    return;
  }
  held->replaced += beyond;  // nobody else references a chain between two turns
  held->end = end;
  if (end == own.base) held->chain = kNoChain;
}

void KvCache::client_gone(ClientId client) {
  if (index_of(client) >= clients_.size()) return;
  Owner& gone = clients_[index_of(client)];
  if (gone.chain == kNoChain) return;
  pool_.close(gone.chain);
  if (gone.entry != HostTier::kNoEntry) host_.close(gone.entry);
  gone = {};
}

Blocks KvCache::hit(const Turn& turn) const {
  if (!caching_) return 0;
  Blocks found = 0;
  if (turn.group != kNoChain) {
    found = std::min({pool_.cached(turn.group), turn.shared_blocks, limit(turn)});
    if (found < turn.shared_blocks) return found;
  }
  return std::max(found, std::min(pool_.cached(turn.chain), limit(turn)));
}

Blocks KvCache::hit_on_host(const Turn& turn, Seconds now) const {
  Blocks found = 0;
  if (turn.group != kNoChain) {
    const HostTier::EntryId entry = groups_[index_of(turn.group_id)].entry;
    const Blocks here = std::max(host_.available(entry, now), hit(turn));
    found = std::min({here, turn.shared_blocks, limit(turn)});
    if (found < turn.shared_blocks) return found;
  }
  const HostTier::EntryId own = clients_[index_of(turn.client)].entry;
  return std::max(found, std::min(host_.available(own, now), limit(turn)));
}

Seconds KvCache::load(const Turn& turn, Blocks blocks, Seconds now) {
  host_.touch(clients_[index_of(turn.client)].entry);
  if (turn.group != kNoChain) host_.touch(groups_[index_of(turn.group_id)].entry);
  return host_.load(blocks, now);
}

Blocks KvCache::evictable(const Turn& turn, Blocks hit) const {
  Blocks free =
      std::max<Blocks>(hit - std::max(pool_.referenced(turn.chain), turn.shared_blocks), 0);
  if (turn.group != kNoChain) {
    free += std::max<Blocks>(std::min(hit, turn.shared_blocks) - pool_.referenced(turn.group), 0);
  }
  return free;
}

Blocks KvCache::referenced_hit(const Turn& turn) const {
  const Blocks found = hit(turn);
  return found - evictable(turn, found);
}

bool KvCache::fits(const Turn& turn, Blocks hit, Tokens tokens, Blocks reserved) const {
  return blocks_for(tokens) - hit + evictable(turn, hit) + reserved <= pool_.free();
}

void KvCache::start(Turn& turn, Blocks hit, Tokens tokens) {
  if (turn.group != kNoChain) pool_.acquire(turn.group, std::min(hit, turn.shared_blocks));
  pool_.acquire(turn.chain, hit);
  const Blocks blocks = blocks_for(tokens);
  pool_.take(blocks - hit);
  turn.room = blocks * block_;
  turn.hashed = hit;
  if (caching_) turn.hash_at = (hit + 1) * block_;
}

bool KvCache::can_grow(const Turn& turn, Tokens tokens) const {
  return blocks_for(tokens) - turn.room / block_ <= pool_.free();
}

bool KvCache::grow(Turn& turn, Tokens tokens) {
  if (!can_grow(turn, tokens)) return false;
  const Blocks missing = blocks_for(tokens) - turn.room / block_;
  pool_.take(missing);
  turn.room += missing * block_;
  return true;
}

void KvCache::hash_blocks(Turn& turn, Tokens tokens) {
  const Blocks full = tokens / block_;
  if (turn.group != kNoChain && turn.hashed < turn.shared_blocks) {
    turn.duplicates += pool_.extend(turn.group, turn.hashed, std::min(full, turn.shared_blocks));
  }
  turn.duplicates += pool_.extend(turn.chain, turn.hashed, full);
  turn.hashed = full;
  turn.hash_at = (full + 1) * block_;
}

void KvCache::store(const Turn& turn, Seconds now) {
  if (!host_.on()) return;
  if (turn.group != kNoChain) {
    const HostTier::EntryId entry = groups_[index_of(turn.group_id)].entry;
    stored_ += host_.store(entry, std::min(turn.hashed, turn.shared_blocks), now);
    if (turn.hashed <= turn.shared_blocks) return;
  }
  stored_ += host_.store(clients_[index_of(turn.client)].entry, turn.hashed, now);
}

void KvCache::free_unhashed(Turn& turn) {
  pool_.give_back_blank(turn.room / block_ - turn.hashed);
  turn.room = 0;
}

KeptBlocks KvCache::keep(Turn& turn, Seconds now) {
  store(turn, now);
  free_unhashed(turn);
  KeptBlocks kept{.group_end = std::min(turn.hashed, turn.shared_blocks), .end = turn.hashed};
  if (kept.group_end > 0) kept.group = turn.group;
  if (kept.end > turn.shared_blocks) kept.chain = turn.chain;
  // A kept copy of what others reference would be kept for nothing.
  pool_.give_back_cached(turn.duplicates);
  turn.duplicates = 0;
  turn.hashed = 0;
  turn.hash_at = caching_ ? block_ : kNoHash;
  return kept;
}

KeptBlocks KvCache::keep_all(Turn& turn) {
  const Blocks nameless = turn.room / block_ - turn.hashed + std::exchange(turn.duplicates, 0);
  turn.room = turn.hashed * block_;
  KeptBlocks kept = keep(turn, 0.0);
  kept.replaced = nameless;
  return kept;
}

void KvCache::drop(const KeptBlocks& kept) {
  pool_.give_back_cached(kept.replaced);
  if (kept.chain != kNoChain) pool_.release(kept.chain, kept.end);
  if (kept.group != kNoChain) pool_.release(kept.group, kept.group_end);
}

void KvCache::drop_first(const KeptBlocks& kept) {
  pool_.give_back_cached(kept.replaced);
  if (kept.group != kNoChain) pool_.release_first(kept.group, kept.group_end);
  if (kept.chain != kNoChain) pool_.release_first(kept.chain, kept.end);
}

void KvCache::free(Turn& turn, Seconds now) { drop(keep(turn, now)); }

Blocks KvCache::unique(const KeptBlocks& kept) const {
  Blocks blocks = kept.replaced;
  if (kept.chain != kNoChain) blocks += pool_.unique(kept.chain, kept.end);
  if (kept.group != kNoChain) blocks += pool_.unique(kept.group, kept.group_end);
  return blocks;
}

}  // namespace lamps::sim
