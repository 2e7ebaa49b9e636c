// SPDX-License-Identifier: Apache-2.0
// Who is here and what they hold: sessions, their requests, and the sums that admission needs. Pure
// bookkeeping; decisions are taken in PolicyCore.
#pragma once

#include <cstdint>
#include <vector>

#include "lamps/predictor.h"
#include "lamps/types.h"

namespace lamps {

enum class RequestState : std::uint8_t { kAbsent, kWaiting, kRunning };
enum class SessionState : std::uint8_t { kAbsent, kActive, kPaused };
// Where the KV is that a session has on the host.
enum class Copy : std::uint8_t {
  kNone,
  kOut,      // being copied there, and no longer kept: its blocks are free once the copy is done
  kHost,     // there only
  kIn,       // being copied back: its blocks in the pool are taken already
  kCopying,  // being copied there while it is kept
  kBoth      // there and kept: can be let go without loss
};

struct Request {
  RequestState state = RequestState::kAbsent;
  SessionHandle session = kNoHandle;
  TurnFacts facts;
  Tokens prompt_tokens = 0;
  Tokens context_tokens = 0;  // KV positions computed so far while running
  Tokens peak_tokens = 0;     // projected context at the end of the turn, whole blocks
  Tokens shared_tokens = 0;  // of the prompt: in memory whatever we do (own kept KV, shared prefix)
  Tokens host_tokens = 0;    // of the rest of the prompt: to be loaded, not computed
  double output_hint = -1.0;  // expected output tokens from the client; < 0: none
  Seconds call_hint = -1.0;   // expected seconds of the call after this turn; < 0: none
  bool final_hint = false;    // the client says that no call follows
  bool preempted = false;     // was running and lost its KV
  bool overdue = false;
  bool skipped = false;  // the engine could not start it in the step just planned (grammar, LoRA)
  Steps last_refresh = 0;
  Seconds arrived = 0;
  Seconds started = 0;          // when it last began to run
  std::int64_t preemption = 0;  // how many preemptions there had been when it was last preempted
  std::uint64_t sequence = 0;   // arrival order

  // Tokens the request will add to the pool between admission and its peak.
  [[nodiscard]] Tokens need() const {
    return peak_tokens > shared_tokens ? peak_tokens - shared_tokens : 0;
  }
  // Tokens it will still add while running.
  [[nodiscard]] Tokens growth() const {
    return peak_tokens > context_tokens ? peak_tokens - context_tokens : 0;
  }
};

struct Session {
  SessionState state = SessionState::kAbsent;
  Seconds arrival = 0;               // of the first turn; decides age
  bool branch = false;               // forked off another session, whose work it is
  std::uint64_t number = 0;          // in order of first arrivals
  Seconds served = 0;                // time its turns have spent running, the present one excepted
  int turns = 0;                     // turns that have arrived
  int live = 0;                      // requests waiting or running (n > 1, or a duplicate id)
  RequestHandle latest = kNoHandle;  // the request that arrived last
  Steps planned = -1;                // the step whose plan last let one of them in
  Tokens context_tokens = 0;         // at the end of the latest turn
  Tokens held_tokens = 0;            // unique KV kept for it while paused, whole blocks
  ClassId prompt_class = kNoClass;   // of its first prompt
  Copy copy = Copy::kNone;
  Tokens host_tokens = 0;  // room taken on the host, whole blocks; > 0 unless kNone
  bool lost_kv = false;    // its kept KV was taken away against our will
  TurnFacts call_facts;    // of the turn before the present pause
  Seconds call_hint = -1.0;
  Seconds paused_at = 0;
  double silence = 0.0;  // what the present pause counts for (Predictor::observe_silence)
  Seconds last_call = -1.0;

  // KV that its next turn finds in the pool.
  [[nodiscard]] Tokens resident_tokens() const {
    return copy == Copy::kOut || copy == Copy::kIn ? host_tokens : held_tokens;
  }
  [[nodiscard]] Tokens idle_host_tokens() const {
    const bool there = copy == Copy::kHost || copy == Copy::kBoth;
    return state == SessionState::kPaused && there ? host_tokens : 0;
  }
};

class Ledger {
 public:
  // --- events; each throws UnknownHandle for a handle that is not in the state it needs ---
  Session& enter(SessionHandle session, Seconds now);  // creates it on its first turn
  void pause(SessionHandle session, Seconds now);      // its call begins
  Request& add_waiting(RequestHandle request, SessionHandle session);
  void set_footprint(RequestHandle request, Tokens peak, Tokens shared);  // waiting or running
  void start(RequestHandle request);                                      // waiting -> running
  void stop(RequestHandle request);                         // running -> waiting (preempted)
  void set_context(RequestHandle request, Tokens context);  // running
  void remove(RequestHandle request);                       // any state -> absent
  void hold(SessionHandle session, Tokens tokens);          // KV kept while paused
  void release(SessionHandle session);         // kept KV let go: kBoth -> kHost, never kCopying
  void swap_out(SessionHandle session);        // holds KV, kNone or kCopying -> kOut
  void copy_ahead(SessionHandle session);      // holds KV, kNone -> kCopying
  void keep_after_all(SessionHandle session);  // kOut -> kNone, holds its KV again
  void swapped_out(SessionHandle session);     // kOut -> kHost, kCopying -> kBoth
  void load(SessionHandle session);            // kHost -> kIn
  void loaded(SessionHandle session);          // kIn -> kBoth, holds its KV again
  void drop_host(SessionHandle session);       // any -> kNone
  void erase(SessionHandle session);           // forget; must hold nothing anywhere, live 0

  // --- questions ---
  [[nodiscard]] const Request& request(RequestHandle handle) const;
  [[nodiscard]] Request& request(RequestHandle handle);
  [[nodiscard]] const Session& session(SessionHandle handle) const;
  [[nodiscard]] Session& session(SessionHandle handle);
  [[nodiscard]] bool has_request(RequestHandle handle) const;
  [[nodiscard]] bool has_session(SessionHandle handle) const;

  [[nodiscard]] Tokens waiting_need() const { return waiting_need_; }
  [[nodiscard]] Tokens running_growth() const { return running_growth_; }
  [[nodiscard]] Tokens running_context() const { return running_context_; }
  [[nodiscard]] Tokens held_tokens() const { return held_tokens_; }
  [[nodiscard]] Tokens host_tokens() const { return host_tokens_; }        // taken on the host
  [[nodiscard]] Tokens leaving_tokens() const { return leaving_tokens_; }  // of these, kOut
  [[nodiscard]] Tokens copying_tokens() const { return copying_tokens_; }  // of these, kCopying
  // Of these, of paused sessions and copied: can be dropped for others.
  [[nodiscard]] Tokens idle_host_tokens() const { return idle_host_tokens_; }
  [[nodiscard]] std::size_t waiting() const { return waiting_; }
  [[nodiscard]] std::size_t running() const { return running_; }
  [[nodiscard]] std::size_t sessions() const { return sessions_count_; }
  // One past the largest request handle ever seen.
  [[nodiscard]] RequestHandle request_table_size() const {
    return static_cast<RequestHandle>(requests_.size());
  }
  // Sessions that hold KV while paused, in no particular order.
  [[nodiscard]] const std::vector<SessionHandle>& holders() const { return holders_; }

  // Sums, counts and holder positions equal what a fresh count gives. O(n); throws
  // InvariantViolation.
  void check_invariants() const;

 private:
  void account(const Request& request, int sign);
  Session& session_in(SessionHandle handle, Copy copy);  // throws UnknownHandle

  std::vector<Request> requests_;       // by handle
  std::vector<Session> session_table_;  // by handle
  std::vector<SessionHandle> holders_;
  std::vector<std::int32_t> holder_position_;  // by session handle; -1: holds nothing
  Tokens waiting_need_ = 0;
  Tokens running_growth_ = 0;
  Tokens running_context_ = 0;
  Tokens held_tokens_ = 0;
  Tokens host_tokens_ = 0;
  Tokens leaving_tokens_ = 0;
  Tokens copying_tokens_ = 0;
  Tokens idle_host_tokens_ = 0;
  std::size_t waiting_ = 0;
  std::size_t running_ = 0;
  std::size_t sessions_count_ = 0;
  std::uint64_t next_session_ = 0;
};

}  // namespace lamps
