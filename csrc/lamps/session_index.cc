// SPDX-License-Identifier: Apache-2.0
#include "lamps/session_index.h"

#include <algorithm>
#include <string>

#include "lamps/errors.h"

namespace lamps {
namespace {

constexpr std::size_t kMostCandidates = 64;  // of sessions that are the same up to a place

std::uint64_t hash_tokens(const PromptChain& chain, std::size_t from, std::size_t count) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a over whole tokens
  for (std::size_t i = from; i < from + count; ++i) {
    hash = (hash ^ static_cast<std::uint32_t>(chain.token(i))) * 0x100000001b3ULL;
  }
  return hash;
}

std::uint64_t checkpoint_hash(const PromptChain& chain, std::size_t depth) {
  return chain.hash(depth * SessionIndex::kStride - 1);
}

}  // namespace

SessionIndex::SessionIndex(std::size_t block_tokens) : block_tokens_(block_tokens) {
  require_in_range("block_tokens", static_cast<double>(block_tokens), 1.0, 1.0e6);
}

// --- lookup ---

std::size_t SessionIndex::deepest_checkpoint(const PromptChain& prompt) const {
  std::size_t low = 0;  // known
  std::size_t high = prompt.blocks() / kStride + 1;
  while (high - low > 1) {
    const std::size_t middle = (low + high) / 2;
    (nodes_.contains(checkpoint_hash(prompt, middle)) ? low : high) = middle;
  }
  return low;
}

const SessionIndex::Node& SessionIndex::node_at(const PromptChain& prompt,
                                                std::size_t depth) const {
  return depth == 0 ? root_ : nodes_.find(checkpoint_hash(prompt, depth))->second;
}

bool SessionIndex::runs_through(const PromptChain& prompt, const End& end) const {
  if (end.rest == 0) return true;
  const std::size_t from = static_cast<std::size_t>(end.blocks) * block_tokens_;
  return from + end.rest <= prompt.tokens() && hash_tokens(prompt, from, end.rest) == end.rest_hash;
}

const SessionIndex::End* SessionIndex::find_end(const EndOf& end, std::uint64_t hash) const {
  for (const End& own : table_[static_cast<std::size_t>(end.session)].ends) {
    if (own.turn == end.turn && own.hash == hash) return &own;
  }
  return nullptr;
}

SessionIndex::Found SessionIndex::judge(SessionHandle handle, const End& end,
                                        std::size_t tokens) const {
  const Session& session = table_[static_cast<std::size_t>(handle)];
  const bool goes_on = tokens == 0 || tokens > end.turn_tokens;
  const bool waits = session.at_work == 0 && goes_on;
  if (waits && end.turn == session.turns) return {Relation::kContinues, handle, end.blocks};
  // Others may have asked the very same first question.
  if (end.blocks <= session.first_blocks) return {};
  const bool edits = waits && 2 * end.blocks >= session.blocks;
  return {edits ? Relation::kEdits : Relation::kForks, handle, end.blocks};
}

// The best of the turns that ended after so many blocks: one that waits for this prompt, else one
// that was edited, else any.
SessionIndex::Found SessionIndex::end_at(const PromptChain& prompt, std::size_t blocks) const {
  const auto rank = [](Relation relation) {
    return relation == Relation::kContinues ? 3
           : relation == Relation::kEdits   ? 2
           : relation == Relation::kForks   ? 1
                                            : 0;
  };
  const std::uint64_t hash = prompt.hash(blocks - 1);
  const auto [first, last] = ends_.equal_range(hash);
  Found best;
  std::size_t looked_at = 0;
  for (auto it = first; it != last && looked_at < kMostCandidates; ++it, ++looked_at) {
    const End* end = find_end(it->second, hash);
    if (end == nullptr || end->blocks != blocks || !runs_through(prompt, *end)) continue;
    const Found found = judge(it->second.session, *end, prompt.tokens());
    if (rank(found.relation) > rank(best.relation) ||
        (found.relation == best.relation && found.session < best.session)) {
      best = found;
    }
  }
  return best;
}

// A checkpoint that only one session has, beyond its first prompt: part of its history was kept.
SessionIndex::Found SessionIndex::owner_of(const PromptChain& prompt, std::size_t depth) const {
  const Node& node = node_at(prompt, depth);
  if (depth == 0 || node.sessions != 1) return {};
  const auto handle = static_cast<SessionHandle>(node.who);
  const Session& session = table_[static_cast<std::size_t>(handle)];
  const std::size_t shared = depth * kStride;
  if (shared <= session.first_blocks) return {};
  const bool edits = session.at_work == 0 && 2 * shared >= session.blocks;
  return {edits ? Relation::kEdits : Relation::kForks, handle, shared};
}

SessionIndex::Found SessionIndex::find(const PromptChain& prompt) const {
  const std::size_t deepest = deepest_checkpoint(prompt);
  for (std::size_t depth = deepest + 1; depth-- > 0;) {
    const Node& node = node_at(prompt, depth);
    const std::size_t from = depth * kStride;
    const std::size_t here = std::min(kStride, prompt.blocks() - from);
    if (node.ends.any()) {
      for (std::size_t i = here; i > 0; --i) {
        if (!node.ends[i - 1]) continue;
        const Found found = end_at(prompt, from + i);
        if (found.relation != Relation::kNew) return found;
      }
    }
    if (depth == deepest) {
      const Found owner = owner_of(prompt, depth);
      if (owner.relation != Relation::kNew) return owner;
    }
  }
  return {};
}

// --- changes ---

void SessionIndex::leave(SessionHandle handle, std::uint64_t checkpoint) {
  const auto node = nodes_.find(checkpoint);
  node->second.who ^= static_cast<std::uint32_t>(handle);
  if (--node->second.sessions == 0) nodes_.erase(node);
}

SessionIndex::Node& SessionIndex::node_of_end(const Session& session, const End& end) {
  const std::size_t depth = (end.blocks - 1) / kStride;
  return depth == 0 ? root_ : nodes_.find(session.path[depth - 1])->second;
}

void SessionIndex::drop_end(SessionHandle handle, Session& session, std::size_t index) {
  const End end = session.ends[index];
  session.ends.erase(session.ends.begin() + static_cast<std::ptrdiff_t>(index));
  const auto [first, last] = ends_.equal_range(end.hash);
  for (auto it = first; it != last; ++it) {
    if (it->second.session != handle || it->second.turn != end.turn) continue;
    ends_.erase(it);
    return;
  }
}

// Makes the chain the session's own: checkpoints and ends that are not in it go.
void SessionIndex::follow(SessionHandle handle, Session& session, const PromptChain& chain) {
  const std::size_t depth = chain.blocks() / kStride;
  for (std::size_t i = session.ends.size(); i-- > 0;) {
    const End& end = session.ends[i];
    if (end.blocks > chain.blocks() || chain.hash(end.blocks - 1) != end.hash) {
      drop_end(handle, session, i);
    }
  }
  while (!session.path.empty() &&
         (session.path.size() > depth ||
          session.path.back() != checkpoint_hash(chain, session.path.size()))) {
    leave(handle, session.path.back());
    session.path.pop_back();
  }
  while (session.path.size() < depth) {
    session.path.push_back(checkpoint_hash(chain, session.path.size() + 1));
    Node& node = nodes_[session.path.back()];
    ++node.sessions;
    node.who ^= static_cast<std::uint32_t>(handle);
  }
  session.blocks = static_cast<std::uint32_t>(chain.blocks());
}

void SessionIndex::add_end(SessionHandle handle, Session& session, const End& end) {
  if (session.ends.size() >= kMostEnds) {
    // Thin out the older half: edits far back are rare, and one place in two still finds most.
    for (std::size_t i = kMostEnds / 2; i > 0; i -= 2) drop_end(handle, session, i - 1);
  }
  session.ends.push_back(end);
  ends_.emplace(end.hash, EndOf{handle, end.turn});
  node_of_end(session, end).ends.set((end.blocks - 1) % kStride);
}

void SessionIndex::begin(SessionHandle handle, const PromptChain& prompt) {
  const auto index = static_cast<std::size_t>(handle);
  if (index >= table_.size()) table_.resize(index + 1);
  Session& session = table_[index];
  if (!session.known) {
    session = Session{};
    session.known = true;
    session.first_blocks = static_cast<std::uint32_t>(prompt.blocks());
    ++sessions_;
  }
  follow(handle, session, prompt);
  ++session.at_work;
  ++session.turns;
  End end;
  end.turn = session.turns;
  end.turn_tokens = static_cast<std::uint32_t>(prompt.tokens());
  std::size_t blocks = prompt.blocks();
  if (prompt.tokens() > 0) {
    const std::size_t kept = prompt.tokens() - std::min(prompt.tokens(), kOpening);
    blocks = std::min(blocks, kept / block_tokens_);
    end.rest = static_cast<std::uint32_t>(kept - blocks * block_tokens_);
    end.rest_hash = hash_tokens(prompt, blocks * block_tokens_, end.rest);
  }
  if (blocks == 0) return;  // too short to be told from others
  end.blocks = static_cast<std::uint32_t>(blocks);
  end.hash = prompt.hash(blocks - 1);
  add_end(handle, session, end);
}

void SessionIndex::finish(SessionHandle handle, const PromptChain& whole, bool aborted) {
  const auto index = static_cast<std::size_t>(handle);
  if (index >= table_.size() || !table_[index].known) return;
  Session& session = table_[index];
  if (session.at_work > 0) --session.at_work;
  if (aborted) return;
  const std::uint32_t prompt_blocks = session.blocks;
  follow(handle, session, whole);
  if (whole.blocks() <= prompt_blocks) return;  // the end of the prompt says as much
  End end;
  end.turn = session.turns;
  end.blocks = static_cast<std::uint32_t>(whole.blocks());
  end.hash = whole.hash(whole.blocks() - 1);
  add_end(handle, session, end);
}

void SessionIndex::forget(SessionHandle handle) {
  const auto index = static_cast<std::size_t>(handle);
  if (index >= table_.size() || !table_[index].known) return;
  Session& session = table_[index];
  while (!session.ends.empty()) drop_end(handle, session, session.ends.size() - 1);
  for (const std::uint64_t checkpoint : session.path) leave(handle, checkpoint);
  session = Session{};
  --sessions_;
}

void SessionIndex::check_invariants() const {
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) throw InvariantViolation("session index: " + what);
  };
  std::unordered_map<std::uint64_t, std::uint32_t> through;
  std::size_t known = 0;
  std::size_t ends = 0;
  for (std::size_t i = 0; i < table_.size(); ++i) {
    const Session& session = table_[i];
    if (!session.known) {
      require(session.path.empty() && session.ends.empty(), "a forgotten session left something");
      continue;
    }
    ++known;
    for (const std::uint64_t checkpoint : session.path) ++through[checkpoint];
    require(session.ends.size() <= kMostEnds, "too many ends");
    for (const End& end : session.ends) {
      ++ends;
      const std::size_t depth = (end.blocks - 1) / kStride;
      require(depth <= session.path.size(), "an end beyond its session");
      const Node& node = depth == 0 ? root_ : nodes_.at(session.path[depth - 1]);
      require(node.ends[(end.blocks - 1) % kStride], "an end that its checkpoint does not know");
    }
  }
  require(known == sessions_, "the count of sessions is wrong");
  require(ends == ends_.size(), "the count of ends is wrong");
  require(through.size() == nodes_.size(), "a checkpoint that nobody has");
  for (const auto& [checkpoint, count] : through) {
    require(nodes_.at(checkpoint).sessions == count, "a checkpoint's count is wrong");
  }
}

}  // namespace lamps
