// SPDX-License-Identifier: Apache-2.0
// The policy core: one object per engine. It is told what happens (arrive, admitted, finished, ...)
// and asked once per engine step what to do. The vLLM shim and the simulator drive the same object.
// How a policy orders, admits, keeps and preempts is in csrc/lamps/policies/, one small file for
// each; all of them share the books, the predictions and the costs kept here.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "lamps/budget.h"
#include "lamps/cost_model.h"
#include "lamps/ledger.h"
#include "lamps/options.h"
#include "lamps/policies/rules.h"
#include "lamps/predictor.h"
#include "lamps/ready_queue.h"
#include "lamps/scene.h"
#include "lamps/types.h"
#include "lamps/wait_list.h"
#include "lamps/waste.h"

namespace lamps {

// Client hints about one turn; negative or empty: not given.
struct TurnHints {
  double output_tokens = -1.0;
  Seconds call_seconds = -1.0;
  std::string_view tool;
  bool final_turn = false;
};

struct Arrival {
  RequestHandle request = kNoHandle;
  SessionHandle session = kNoHandle;  // unknown handles start a session
  Tokens prompt_tokens = 0;           // > 0
  Tokens shared_tokens = 0;           // of the prompt: KV that somebody references right now
  Tokens host_tokens = 0;  // of the rest: KV that a host tier has beyond what we put there
  TurnHints hints;
  ClassId prompt_class = kNoClass;   // of a session's first prompt; see PromptClasses
  Tokens cap_tokens = 0;             // max_tokens of a client that chose it freely; <= 0: none
  SessionHandle parent = kNoHandle;  // of a new session that forked off a known one
};

struct Finish {
  RequestHandle request = kNoHandle;
  Tokens output_tokens = 0;   // produced by the turn
  Tokens context_tokens = 0;  // prompt + output
  Tokens held_tokens = 0;     // unique KV kept for the session, whole blocks; 0: nothing was kept
  bool aborted = false;       // client gone or failed: the session is not waited for
  TurnEnd end{};              // calls recognised in the output
};

struct StepView {
  Seconds now = 0;
  Tokens free_tokens = 0;  // KV positions in blocks that nobody references
  Tokens step_tokens = 0;  // tokens the coming step may compute
  std::int64_t slots = 0;  // requests that may still start running
  std::span<const RequestHandle> running;
  std::span<const Tokens> context;  // per running request: KV positions computed
};

enum class Reason : std::uint8_t {
  kPreserved,
  kLeastWaste,
  kRoomForWaiting,
  kRoomForRunning,
  kOverdue,
  kExpired,
  kFinal,
  kReturned,
  kPrefetched
};
[[nodiscard]] const char* to_string(Reason reason);

// What was decided about a session's KV and why; only recorded when recording is on.
struct Decision {
  SessionHandle session = kNoHandle;
  Seconds at = 0;
  Handling handling = Handling::kPreserve;
  Reason reason = Reason::kPreserved;
  Tokens context_tokens = 0;
  Seconds expected_call = 0;  // seconds still to come
  ToolId tool = kNoTool;      // that the session waits for
  Seconds waited = 0;         // since the pause began
  double p_return = 1.0;
  double pressure = 0.0;
  Waste waste;
};

struct StepPlan {
  std::vector<RequestHandle> admit;    // waiting requests that may enter, in order; without a gate
                                       // (see Rules::gated) those skipped in the last step come on
                                       // top of StepView::slots
  std::vector<SessionHandle> release;  // sessions whose kept KV must be let go now
  std::vector<SessionHandle> forget;   // sessions the core no longer knows: their handles are free
  std::vector<RequestHandle> run_order;  // running requests, best first: the last is the first
                                         // victim; empty: leave the order as it is
  // With a host tier (Engine::host_tokens > 0), in this order after `release`. A copy never holds a
  // step up: the caller starts it, tells when it is done, and tells nothing after drop_host.
  std::vector<SessionHandle> drop_host;  // free their host room once no copy reads or writes it;
                                         // a copy out that is not done frees its blocks as usual
  std::vector<SessionHandle> swap_out;   // copy their kept KV to the host, then free its blocks and
                                         // call swapped_out(); until then the blocks count as used
  std::vector<SessionHandle> copy_ahead;  // copy their kept KV to the host behind all other copies
                                          // and keep it, then call swapped_out(); a swap_out that
                                          // comes first frees the blocks at the end of this copy
  std::vector<SessionHandle> prefetch;    // load their KV into free blocks, then call loaded(); the
                                          // blocks count as used from now on, the host room stays
};

struct Counters {
  std::int64_t steps = 0, arrivals = 0, returns = 0, admissions = 0, preemptions = 0;
  std::int64_t overdue = 0, preserved = 0, discarded = 0, released = 0, forgotten = 0;
  std::int64_t swapped = 0, copied_ahead = 0, prefetched = 0;
};

class PolicyCore {
 public:
  // Throws InvalidOption.
  PolicyCore(const Engine& engine, const Options& options);
  PolicyCore(const PolicyCore&) = delete;  // its rules look at its own books
  PolicyCore& operator=(const PolicyCore&) = delete;

  // Whether the caller should keep a turn's KV when it finishes.
  [[nodiscard]] bool keeps() const { return options_.preserve && rules_->keeps(); }

  // --- events, in the order in which they happened ---
  void arrive(Seconds now, const Arrival& arrival);
  void admitted(Seconds now, RequestHandle request, Tokens cached_tokens);
  void skipped(RequestHandle request);  // planned, but the engine could not start it yet
  void preempted(Seconds now, RequestHandle request);
  void finished(Seconds now, const Finish& finish);
  // The caller let a session's KV go on its own, in the pool and on the host (reset, fault).
  void released(SessionHandle session);
  // Copies that were asked for are done. Ignored when the session has no use for them any more: it
  // has returned, lost its KV or ended meanwhile, and drop_host has been or will be told.
  void swapped_out(Seconds now, SessionHandle session);
  void loaded(Seconds now, SessionHandle session);
  // The session's host copy is gone, or could not be made. What is kept of its KV stays kept.
  void host_lost(SessionHandle session);
  void observe_step(const StepLoad& load, Seconds measured);
  void observe_copy(Bytes bytes, Seconds measured) { cost_.observe_copy(bytes, measured); }

  // --- once per step, before the engine schedules ---
  [[nodiscard]] StepPlan begin_step(const StepView& view);
  // Paused sessions that keep KV, cheapest to let go first, until `tokens` are covered: called when
  // an allocation fails, before anything is preempted. The caller lets them go in this order and
  // stops when it has enough; what it let go comes back through released_under_pressure().
  [[nodiscard]] std::vector<SessionHandle> release_order(Seconds now, Tokens tokens);
  void released_under_pressure(Seconds now, SessionHandle session);

  // --- reports ---
  void record_decisions(bool on) { recording_ = on; }
  [[nodiscard]] std::vector<Decision> take_decisions();
  [[nodiscard]] const Counters& counters() const { return counters_; }
  [[nodiscard]] const AdmissionBudget& budget() const { return budget_; }
  // Seconds after which a waiting request is overdue at present, given the steps too.
  [[nodiscard]] Seconds waiting_bound() const { return rules_->starvation_seconds(); }
  [[nodiscard]] const CostModel& cost() const { return cost_; }
  [[nodiscard]] const Ledger& ledger() const { return ledger_; }
  [[nodiscard]] Predictor& predictor() { return predictor_; }
  [[nodiscard]] std::vector<RequestHandle> waiting_order(std::size_t limit) const {
    return ready_.first(limit);
  }
  void check_invariants() const;

 private:
  void update_pressure(const StepView& view);
  [[nodiscard]] Seconds refill_seconds() const;
  void note_recomputed(Tokens tokens);
  void fade_recomputed(Seconds now);
  [[nodiscard]] Seconds forgotten_at(const Session& session) const;
  void start_waiting(Seconds now, RequestHandle handle);
  void stop_waiting(RequestHandle handle);
  void refresh(RequestHandle handle);
  void refresh_some();
  void refresh_all();
  void rekey_waiting(SessionHandle handle);
  void mark_overdue(Seconds now);
  void track_running(const StepView& view);
  void settle_pauses(Seconds now, StepPlan& plan);
  void decide_pause(Seconds now, SessionHandle handle, StepPlan& plan);
  void overrule_pauses(Seconds now, StepPlan& plan);
  void await_return(Seconds now, SessionHandle handle);
  void prefetch(const StepView& view, StepPlan& plan);
  void copy_ahead(Seconds now, StepPlan& plan);
  void take_off_copy_list(SessionHandle handle);
  void apply(Seconds now, SessionHandle handle, Handling handling, Reason reason, StepPlan& plan);
  [[nodiscard]] bool swap_out(Seconds now, SessionHandle handle, Reason reason, StepPlan& plan);
  [[nodiscard]] bool swap_beats_drop(Seconds now, SessionHandle handle) const;
  void keep_untold(SessionHandle handle);
  void drop_host(SessionHandle handle);
  void lose(SessionHandle handle);
  void leave_to_host(SessionHandle handle);
  void check_copy_list() const;
  void forget_host(SessionHandle handle);
  void make_host_room(Tokens tokens);
  void move_footprint(SessionHandle handle, Tokens shared, Tokens host);
  void offer(const StepView& view, StepPlan& plan);
  void admit(const StepView& view, StepPlan& plan);
  [[nodiscard]] bool make_room(Seconds now, Tokens missing, Reason reason, StepPlan& plan);
  void let_go(Seconds now, SessionHandle handle, Reason reason);
  void order_running(const StepView& view, StepPlan& plan) const;
  void count_silence(SessionHandle handle, Seconds elapsed);
  void schedule_decision(Seconds now, SessionHandle handle, Seconds again);
  void end_session(Seconds now, SessionHandle handle, Reason reason);
  void record(Seconds now, SessionHandle handle, Handling handling, Reason reason);

  Engine engine_;
  Options options_;
  CostModel cost_;
  Predictor predictor_;
  AdmissionBudget budget_;
  Ledger ledger_;
  ReadyQueue ready_;                       // waiting requests by service order
  WaitList waits_;                         // waiting requests by the moment they began to wait
  WaitList on_host_;                       // sessions with KV on the host, longest there first
  WaitList uncopied_;                      // paused sessions that keep KV no copy of which has been
                                           // ordered, longest pause first; empty without a host
  ReadyQueue pause_timers_;                // paused sessions by the instant of their next decision
  std::vector<SessionHandle> to_release_;  // decided between steps, told in the next plan
  std::vector<SessionHandle> to_swap_out_;
  std::vector<SessionHandle> to_drop_host_;
  std::vector<SessionHandle> to_forget_;
  std::vector<SessionHandle> awaited_;  // have KV on the host and are about to return
  std::vector<Decision> decisions_;
  Counters counters_;
  std::uint64_t next_sequence_ = 0;
  Steps step_ = 0;
  RequestHandle refresh_cursor_ = kNoHandle;
  Tokens freeing_ = 0;       // decided to be let go, not yet free in the caller's pool
  std::size_t skipped_ = 0;  // requests that the engine could not start in the last step
  Load load_;
  Seconds last_step_at_ = 0.0;
  bool recording_ = false;
  Scene scene_;                   // refers to the members above
  std::unique_ptr<Rules> rules_;  // refers to scene_
};

}  // namespace lamps
