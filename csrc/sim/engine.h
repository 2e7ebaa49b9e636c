// SPDX-License-Identifier: Apache-2.0
// One simulated engine: continuous batching with chunked prefill as vLLM's scheduler does it, in
// virtual time. Running turns first, in order; then waiting ones, unless somebody was preempted; a
// turn enters only when its whole prompt fits; who needs a block when none is free preempts from
// the end of the running list (or, by priority, the youngest session), which recomputes later.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "lamps/policy.h"
#include "sim/core_driver.h"
#include "sim/engine_model.h"
#include "sim/kv_cache.h"
#include "sim/turn.h"
#include "sim/waiting_line.h"

namespace lamps::sim {

struct EngineTotals {
  std::int64_t steps = 0;  // that computed something
  std::int64_t empty_steps = 0;
  std::int64_t preemptions = 0;
  Seconds busy = 0;
  Tokens prefill_tokens = 0;  // computed beyond one per request and step
  Tokens output_tokens = 0;
  Tokens cached_tokens = 0;  // found in the pool by turns that started
  Tokens loaded_tokens = 0;
  Tokens recomputed_tokens = 0;
  Tokens recomputed_after_preemption = 0;                               // of these
  TokenSeconds running = 0, held = 0, cached = 0, empty = 0, host = 0;  // integrals over time

  EngineTotals& operator+=(const EngineTotals& other);
};

// What the pool holds now, tokens: of turns, of pauses, of nobody but cached, nothing; host tier.
struct Occupancy {
  Tokens running = 0, held = 0, cached = 0, empty = 0, host = 0;
};

class VirtualEngine {
 public:
  // `model` is validated by the caller.
  VirtualEngine(const EngineModel& model, Scheduling scheduling, const Options& options,
                bool count_decisions);
  VirtualEngine(const VirtualEngine&) = delete;  // its parts refer to each other
  VirtualEngine& operator=(const VirtualEngine&) = delete;

  // A turn reaches the engine; it is taken in when the step under way has ended.
  void send(Seconds now, const TurnRequest& request);
  void client_gone(ClientId client);
  // Between two turns of it: all but the first `kept` tokens of its context have been replaced.
  void rewritten(ClientId client, Tokens kept);

  // The instant at which the engine acts next; kForever when it has nothing to do.
  [[nodiscard]] Seconds wakes_at() const { return wakes_at_; }
  // First half: the step that ends now. Returns the turns that finished with it; valid until
  // plan().
  std::span<const Turn> end_step(Seconds now);
  // Second half, after everything that happened up to now has been sent: plans the next step.
  void plan(Seconds now);

  [[nodiscard]] std::size_t waiting() const;  // sent, not running
  [[nodiscard]] std::size_t running() const { return running_.size(); }
  [[nodiscard]] Occupancy occupancy() const;
  [[nodiscard]] const EngineTotals& totals() const { return totals_; }
  [[nodiscard]] Tokens stored_tokens() const;  // copied to the host tier
  [[nodiscard]] const CoreDriver* core() const { return core_.get(); }
  // Blocks, chains and turns add up; O(n). Throws InvariantViolation.
  void check_invariants() const;

 private:
  struct Scheduled {
    TurnId turn;
    std::int32_t tokens;
    bool samples;
  };
  struct Step {
    Seconds planned_at = 0;
    Seconds seconds = 0;
    Seconds ends_at = kForever;  // known once the step before it has ended
    StepLoad load;               // as the policy core is told
    std::vector<Scheduled> turns;
  };
  struct Load {  // from the host tier
    TurnId turn;
    Seconds ready_at;
  };
  enum class Entry : std::uint8_t { kStarted, kDeferred, kNoRoom };

  [[nodiscard]] Turn& turn(TurnId id) { return turns_[static_cast<std::size_t>(id)]; }
  void take_in(Seconds now, const TurnRequest& request);
  void take_output(Turn& served, const Scheduled& each);
  void finish(Seconds now, TurnId id);
  void observe(Seconds now, const Step& step);
  void account(Seconds now);

  void schedule(Seconds now);
  void schedule_running(Seconds now);
  void schedule_waiting(Seconds now);
  [[nodiscard]] bool resume_loaded(Seconds now);
  [[nodiscard]] Blocks on_host(const Turn& turn, Seconds now) const;
  [[nodiscard]] Blocks unfinished_prefills() const;
  [[nodiscard]] Seconds start_load(const Turn& turn, Blocks blocks, Seconds now);
  [[nodiscard]] Entry enter(Seconds now, TurnId id);
  template <typename Fits>
  [[nodiscard]] bool room(Seconds now, const Turn& needs, const Fits& fits) {
    return fits() || (core_ && core_->make_room(now, needs, fits));
  }
  [[nodiscard]] bool grow(Seconds now, TurnId id, Tokens tokens, std::size_t& index);
  [[nodiscard]] std::size_t victim() const;
  void preempt(Seconds now, TurnId id);
  void put(TurnId id, Tokens tokens);
  void unschedule(TurnId id);

  EngineModel model_;
  bool youngest_goes_first_;  // as a victim; else the last that runs
  KvCache kv_;
  std::unique_ptr<CoreDriver> core_;  // null: stock vLLM
  std::vector<Turn> turns_;
  std::vector<TurnId> idle_;  // the last freed first, as the shim hands out its handles
  std::vector<TurnRequest> inbox_;
  std::vector<TurnId> running_;
  WaitingLine line_;
  std::vector<Load> loads_;
  std::vector<std::pair<TurnId, Tokens>> entered_;  // in this step, with what was cached
  std::deque<Step> in_flight_;
  std::vector<Turn> finished_;
  std::vector<Step> spare_;  // steps whose vectors are used again
  Step step_;                // being planned
  Tokens budget_ = 0;        // tokens the step may still compute
  bool preempted_ = false;   // somebody, in this step
  Seconds wakes_at_ = kForever;
  Seconds last_update_ = 0.0;
  Seconds accounted_at_ = 0.0;
  std::int64_t idle_streak_ = 0;
  EngineTotals totals_;
};

}  // namespace lamps::sim
