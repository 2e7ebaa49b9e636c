// SPDX-License-Identifier: Apache-2.0
// The KV block pool of a simulated engine: references, prefix cache and eviction order as in vLLM,
// but in runs of blocks instead of single ones, so that a turn costs the same whatever its context.
//
// A chain is the sequence of full blocks that one session, or the prefix that a group of sessions
// shares, would have in the cache. Three facts of vLLM make runs enough: a reference always covers
// a prefix of a chain, a turn lets go of all its blocks at once, last block first, and the pool
// evicts what was let go first. So the cached positions of a chain are always a prefix of it, and
// the free queue is a list of runs that shrink from their high end. Blocks without content are all
// alike and are taken first: a count.
//
// One case needs more: content computed again while an unreferenced copy is still cached (vLLM
// never hits the last token of a prompt). The older copy is then turned into a nameless run, which
// holds its place in the queue and can no longer be hit; vLLM would hit the older copy first.
#pragma once

#include <cstdint>
#include <vector>

namespace lamps::sim {

using Blocks = std::int64_t;
using ChainId = std::int32_t;
inline constexpr ChainId kNoChain = -1;

class BlockPool {
 public:
  explicit BlockPool(Blocks total);  // > 0

  // A chain whose positions begin at `base` >= 0 (those below are in the group's chain).
  ChainId open(Blocks base);
  // No reference will be taken any more. The id is reused once nothing of the chain is left.
  void close(ChainId chain);

  [[nodiscard]] Blocks free() const { return free_; }
  [[nodiscard]] Blocks total() const { return total_; }
  [[nodiscard]] Blocks blank() const { return blank_; }  // free and without content
  // One past the last cached, and the last referenced position; the base when there is none.
  [[nodiscard]] Blocks cached(ChainId chain) const { return at(chain).cached; }
  [[nodiscard]] Blocks referenced(ChainId chain) const;
  // Positions that would become free if one reference up to `end` went.
  [[nodiscard]] Blocks unique(ChainId chain, Blocks end) const;

  // Takes a reference to the cached positions [base, end); an empty one is no reference.
  void acquire(ChainId chain, Blocks end);
  // A reference up to `from` grows to `to` with blocks taken before, whose content is now known.
  // Returns how many of them duplicate content that somebody else references.
  [[nodiscard]] Blocks extend(ChainId chain, Blocks from, Blocks to);
  void release(ChainId chain, Blocks end);
  // The same, but what becomes free is evicted before everything else.
  void release_first(ChainId chain, Blocks end);

  // What followed position `end` >= base has been replaced by other content: copies of it cannot be
  // hit any more, but keep their place in the queue. References end there from now on; returns how
  // many referenced blocks lay beyond, which are the caller's to give back.
  [[nodiscard]] Blocks cut(ChainId chain, Blocks end);

  void take(Blocks count);          // count <= free(): blank ones first, then evicts
  void give_back_blank(Blocks n);   // blocks taken that never got content
  void give_back_cached(Blocks n);  // duplicates: last in the queue, but never hit

  [[nodiscard]] std::size_t chains() const { return chains_.size() - idle_chains_.size(); }
  // Every sum equals a fresh count; `in_use_elsewhere`: blocks taken that are in no chain. O(n).
  // Throws InvariantViolation.
  void check_invariants(Blocks in_use_elsewhere) const;

 private:
  using RunId = std::int32_t;
  static constexpr RunId kNoRun = -1;
  struct Reference {
    Blocks end;
    std::int32_t count;
  };
  struct Chain {
    Blocks base = 0;
    Blocks cached = 0;
    RunId newest = kNoRun;              // free runs, lowest positions first
    std::vector<Reference> references;  // distinct ends, largest first
    bool open = false;
    bool closing = false;
  };
  struct Run {  // free positions [low, high) of a chain, or high - low nameless blocks
    ChainId chain = kNoChain;
    Blocks low = 0;
    Blocks high = 0;
    RunId before = kNoRun, after = kNoRun;  // in the free queue
    RunId newer = kNoRun, older = kNoRun;   // of the same chain
  };

  [[nodiscard]] const Chain& at(ChainId chain) const {
    return chains_[static_cast<std::size_t>(chain)];
  }
  [[nodiscard]] Chain& at(ChainId chain) { return chains_[static_cast<std::size_t>(chain)]; }
  [[nodiscard]] Run& run(RunId id) { return runs_[static_cast<std::size_t>(id)]; }
  [[nodiscard]] const Run& run(RunId id) const { return runs_[static_cast<std::size_t>(id)]; }
  void add_reference(Chain& chain, Blocks end);
  void drop_reference(Chain& chain, Blocks end);
  RunId make_run(ChainId chain, Blocks low, Blocks high);
  void prepend(ChainId chain, Blocks low, Blocks high);
  void name_nothing_free(Chain& chain);
  void give_back(ChainId id, Blocks end, bool first);
  void add_to_chain(RunId run);
  void append(ChainId chain, Blocks low, Blocks high);
  void unlink_from_queue(RunId id);
  void unlink_from_chain(RunId id);
  void recycle(RunId id);
  void forget_if_done(ChainId chain);

  Blocks total_;
  Blocks free_;
  Blocks blank_;
  std::vector<Chain> chains_;
  std::vector<ChainId> idle_chains_;
  std::vector<Run> runs_;
  std::vector<RunId> idle_runs_;
  RunId first_ = kNoRun;  // evicted first
  RunId last_ = kNoRun;
};

}  // namespace lamps::sim
