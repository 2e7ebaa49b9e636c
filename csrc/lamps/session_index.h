// SPDX-License-Identifier: Apache-2.0
// Which session a prompt belongs to, where nobody says it. A prompt is a chain of block hashes,
// each standing for everything before it too; a prompt that runs through the place where a turn of
// a session ended, and goes on from there, is that session's next turn.
//
//   continues  through the end of the latest turn of a session that waits;
//   edits      the history was rewritten: it runs through an earlier part of a waiting session that
//              only this session can have, and that is at least half of what it had;
//   forks      the same of a session that is at work, or with less in common, or the very prompt of
//              a later turn again: a new session, child of that one;
//   new        nothing, or nothing but what others may have too (a system prompt, a first
//   question).
//
// A lookup does not read the chain: every kStride-th hash of every session is a checkpoint, the
// checkpoints of a prompt that are known are a prefix of all of them, so the deepest is found by
// bisection, and below it only places are looked at where some turn ended.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "lamps/types.h"

namespace lamps {

// A prompt as the index reads it, a few entries at a time.
class PromptChain {
 public:
  virtual ~PromptChain() = default;
  [[nodiscard]] virtual std::size_t blocks() const = 0;                   // whole blocks
  [[nodiscard]] virtual std::uint64_t hash(std::size_t block) const = 0;  // of blocks [0, block]
  [[nodiscard]] virtual std::size_t tokens() const = 0;                   // 0: not known
  [[nodiscard]] virtual std::int32_t token(std::size_t i) const = 0;
};

class SessionIndex {
 public:
  enum class Relation : std::uint8_t { kNew, kContinues, kEdits, kForks };
  struct Found {
    Relation relation = Relation::kNew;
    SessionHandle session = kNoHandle;  // continued or edited; the parent of a fork
    std::size_t shared_blocks = 0;      // at least so many are common
  };

  static constexpr std::size_t kStride = 256;  // blocks between checkpoints
  static constexpr std::size_t kMostEnds = 8;  // ends of turns remembered per session
  // Tokens at the end of a prompt that may differ in the next one: templates open the answer there
  // (the assistant's header, an opened <think>).
  static constexpr std::size_t kOpening = 4;

  // block_tokens: positions per block, > 0. Throws InvalidOption.
  explicit SessionIndex(std::size_t block_tokens);

  [[nodiscard]] Found find(const PromptChain& prompt) const;
  // A turn of the session with this prompt has begun; unknown handles start a session.
  void begin(SessionHandle session, const PromptChain& prompt);
  // It has ended, with `whole` = prompt and output. An aborted turn leaves no end.
  void finish(SessionHandle session, const PromptChain& whole, bool aborted);
  void forget(SessionHandle session);  // unknown handles are ignored

  [[nodiscard]] std::size_t sessions() const { return sessions_; }
  [[nodiscard]] std::size_t checkpoints() const { return nodes_.size(); }
  void check_invariants() const;  // O(n); throws InvariantViolation

 private:
  struct Node {
    std::uint32_t sessions = 0;  // whose chains run through this checkpoint
    std::uint32_t who = 0;       // xor of their handles: the handle, if there is only one
    std::bitset<kStride> ends;   // blocks after the checkpoint at which a turn ended; may be
                                 // set for one that is gone
  };
  // The end of a turn: after `blocks` whole blocks and `rest` tokens more.
  struct End {
    std::uint64_t hash = 0;  // of the last whole block
    std::uint32_t blocks = 0;
    std::uint32_t rest = 0;
    std::uint64_t rest_hash = 0;
    std::uint32_t turn_tokens = 0;  // a prompt must be longer than this to go on from here; 0: any
    std::uint32_t turn = 0;
  };
  struct Session {
    bool known = false;
    int at_work = 0;  // turns that have begun and not ended
    std::uint32_t turns = 0;
    std::uint32_t first_blocks = 0;   // of its first prompt
    std::uint32_t blocks = 0;         // of its latest turn
    std::vector<std::uint64_t> path;  // its checkpoints
    std::vector<End> ends;            // oldest first
  };
  struct EndOf {
    SessionHandle session;
    std::uint32_t turn;
  };

  [[nodiscard]] std::size_t deepest_checkpoint(const PromptChain& prompt) const;
  [[nodiscard]] const Node& node_at(const PromptChain& prompt, std::size_t depth) const;
  [[nodiscard]] bool runs_through(const PromptChain& prompt, const End& end) const;
  [[nodiscard]] Found end_at(const PromptChain& prompt, std::size_t blocks) const;
  [[nodiscard]] Found owner_of(const PromptChain& prompt, std::size_t depth) const;
  [[nodiscard]] Found judge(SessionHandle handle, const End& end, std::size_t tokens) const;
  [[nodiscard]] const End* find_end(const EndOf& end, std::uint64_t hash) const;
  void follow(SessionHandle handle, Session& session, const PromptChain& chain);
  void add_end(SessionHandle handle, Session& session, const End& end);
  void drop_end(SessionHandle handle, Session& session, std::size_t index);
  void leave(SessionHandle handle, std::uint64_t checkpoint);
  Node& node_of_end(const Session& session, const End& end);

  std::size_t block_tokens_;
  Node root_;  // the checkpoint before the first block: everyone's
  std::unordered_map<std::uint64_t, Node> nodes_;
  std::unordered_multimap<std::uint64_t, EndOf> ends_;
  std::vector<Session> table_;  // by handle
  std::size_t sessions_ = 0;
};

}  // namespace lamps
