// SPDX-License-Identifier: Apache-2.0
// KV blocks of turns: what a new turn finds, what it needs, what it leaves. The counterpart of
// vLLM's KV cache manager for one full-attention group.
#pragma once

#include <vector>

#include "sim/block_pool.h"
#include "sim/engine_model.h"
#include "sim/host_tier.h"
#include "sim/turn.h"

namespace lamps::sim {

// References to a finished turn's full blocks, kept for its session.
struct KeptBlocks {
  ChainId group = kNoChain;
  ChainId chain = kNoChain;
  Blocks group_end = 0;
  Blocks end = 0;
  Blocks replaced = 0;  // blocks whose content nobody will look for any more
};

class KvCache {
 public:
  explicit KvCache(const EngineModel& engine);

  // Finds or makes the chains of the turn's session and group.
  void attach(Turn& turn, const TurnRequest& request);
  void client_gone(ClientId client);  // its session has ended: nothing of it will be looked up
  // The session has replaced what followed its first `kept` tokens. `held`: what is kept for it, or
  // null.
  // `landing`: what a load for it goes to, or null.
  void rewritten(ClientId client, Tokens kept, KeptBlocks* held, Turn* landing);

  // Leading full blocks of the turn's tokens that are cached; never all of its tokens, because the
  // last one has to be computed to get the next.
  [[nodiscard]] Blocks hit(const Turn& turn) const;
  [[nodiscard]] Blocks hit_on_host(const Turn& turn, Seconds now) const;  // the same, host tier
  // Of these, blocks that somebody references.
  [[nodiscard]] Blocks referenced_hit(const Turn& turn) const;

  // A load of `blocks` of the turn from the host begins; returns when it is complete.
  [[nodiscard]] Seconds load(const Turn& turn, Blocks blocks, Seconds now);

  // Whether a turn that starts with `hit` cached blocks can have room for `tokens` positions, with
  // `reserved` blocks left.
  [[nodiscard]] bool fits(const Turn& turn, Blocks hit, Tokens tokens, Blocks reserved = 0) const;
  // It starts: takes the hit and room for `tokens` positions, `fits` permitting.
  void start(Turn& turn, Blocks hit, Tokens tokens);
  [[nodiscard]] bool can_grow(const Turn& turn, Tokens tokens) const;
  [[nodiscard]] bool grow(Turn& turn, Tokens tokens);  // false: no room, nothing changed
  // Positions below `tokens` are final: full blocks among them can be found from now on.
  void commit(Turn& turn, Tokens tokens) {
    if (tokens >= turn.hash_at) hash_blocks(turn, tokens);
  }
  void free(Turn& turn, Seconds now);
  // Frees all but the full blocks, whose references the caller takes over.
  [[nodiscard]] KeptBlocks keep(Turn& turn, Seconds now);
  [[nodiscard]] KeptBlocks keep_all(Turn& turn);  // frees none, though some cannot be found
  void drop(const KeptBlocks& kept);
  void drop_first(const KeptBlocks& kept);  // to be evicted before everything else
  [[nodiscard]] Blocks unique(const KeptBlocks& kept) const;  // would become free

  [[nodiscard]] Blocks blocks_for(Tokens tokens) const { return (tokens + block_ - 1) / block_; }
  [[nodiscard]] Tokens tokens_in(Blocks blocks) const { return blocks * block_; }
  [[nodiscard]] const BlockPool& pool() const { return pool_; }
  [[nodiscard]] HostTier& host() { return host_; }
  [[nodiscard]] const HostTier& host() const { return host_; }
  [[nodiscard]] Blocks stored_blocks() const { return stored_; }

 private:
  struct Owner {  // a session or a group
    ChainId chain = kNoChain;
    HostTier::EntryId entry = HostTier::kNoEntry;
    Blocks base = 0;
  };
  Owner& owner(std::vector<Owner>& owners, std::int32_t id, Blocks base);
  [[nodiscard]] Blocks limit(const Turn& turn) const { return (turn.tokens - 1) / block_; }
  [[nodiscard]] Blocks evictable(const Turn& turn, Blocks hit) const;
  void hash_blocks(Turn& turn, Tokens tokens);
  void free_unhashed(Turn& turn);
  void store(const Turn& turn, Seconds now);

  Tokens block_;
  bool caching_;
  BlockPool pool_;
  HostTier host_;
  std::vector<Owner> clients_;
  std::vector<Owner> groups_;
  Blocks stored_ = 0;
};

}  // namespace lamps::sim
