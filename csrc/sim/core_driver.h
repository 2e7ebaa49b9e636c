// SPDX-License-Identifier: Apache-2.0
// Drives a PolicyCore as the vLLM shim does: the same events with the same values in the same
// order, told with the next step; the same handles; KV kept and let go at the same points. Nothing
// is decided here.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "lamps/policy.h"
#include "sim/engine_model.h"
#include "sim/kv_cache.h"
#include "sim/swap_space.h"
#include "sim/turn.h"

namespace lamps::sim {

// Handling, reason and class of the call, and how often that was decided.
using DecisionCounts = std::map<std::tuple<Handling, Reason, std::int32_t>, std::int64_t>;

class CoreDriver {
 public:
  // Keeps a reference to `kv`. Throws InvalidOption.
  CoreDriver(const EngineModel& engine, const Options& options, KvCache& kv, bool count_decisions);

  // --- events ---
  void arrived(Seconds now, TurnId id, Turn& turn, const TurnRequest& request);
  void preempted(Seconds now, TurnId id);
  void finished(Seconds now, TurnId id, Turn& turn);  // keeps or frees its blocks
  void admitted(Seconds now, TurnId id, const Turn& turn, Tokens cached);
  void skipped(TurnId id);
  void step_took(const StepLoad& load, Seconds seconds);
  void client_gone(ClientId client);
  void rewritten(ClientId client, Tokens kept);  // see VirtualEngine
  // The core wants vLLM's own priority mode, where the turn of the youngest session is preempted.
  [[nodiscard]] bool youngest_goes_first() const { return youngest_goes_first_; }

  // --- a step ---
  // Lets go of what the core lets go of. `running` is put into the order the core wants.
  // Returns who may enter, in order.
  std::span<const TurnId> begin_step(Seconds now, std::vector<TurnId>& running,
                                     const std::vector<Turn>& turns);
  // An allocation for `turn` failed: lets kept KV go, in the core's order, until `fits` says that
  // it is enough. False when it never is.
  template <typename Fits>
  bool make_room(Seconds now, const Turn& turn, const Fits& fits) {
    if (holders_ == 0) return false;
    for (const SessionHandle session : core_.release_order(now, everything_)) {
      if (session == turn.session || !let_go(session)) continue;
      events_.push_back(Pressure{now, session});
      if (fits()) return true;
    }
    return false;
  }

  // --- KV on the host, where the core swaps ---
  [[nodiscard]] bool must_wait(const Turn& turn) const;   // a load for it is under way
  [[nodiscard]] Blocks loadable(const Turn& turn) const;  // one past the last position
  [[nodiscard]] Seconds load(const Turn& turn, Blocks blocks, Seconds now);  // until when
  [[nodiscard]] const SwapSpace* swap() const { return swap_.get(); }

  [[nodiscard]] const PolicyCore& core() const { return core_; }
  [[nodiscard]] Blocks kept_blocks() const;
  // Of the blocks kept and of loads under way, those that are in no chain. O(n)
  [[nodiscard]] Blocks nameless_blocks() const;
  [[nodiscard]] std::int64_t holders() const { return holders_; }
  [[nodiscard]] const DecisionCounts& decisions() const { return decisions_; }
  void check_invariants() const;  // throws InvariantViolation

 private:
  struct Arrived {
    Seconds now;
    Arrival arrival;
    std::int32_t tool;  // named in the hints; kNoHandle: not named
  };
  struct Admitted {
    Seconds now;
    TurnId turn;
    Tokens cached;
  };
  struct Preempted {
    Seconds now;
    TurnId turn;
  };
  struct Finished {
    Seconds now;
    Finish finish;
    std::int32_t called;  // see TurnRequest
  };
  struct Pressure {
    Seconds now;
    SessionHandle session;
  };
  struct Skipped {
    TurnId turn;
  };
  struct StepTook {
    StepLoad load;
    Seconds seconds;
  };
  struct CopyDone {
    Seconds now;
    SwapSpace::Done copy;
  };
  using Event =
      std::variant<Arrived, Admitted, Preempted, Finished, Pressure, Skipped, StepTook, CopyDone>;

  struct Known {                  // a session of the core
    ClientId client = kNoHandle;  // kNoHandle: it has ended
    std::int32_t tool = kNoHandle;
    std::int32_t group = kNoHandle;
    KeptBlocks kept;
    std::int64_t number = 0;  // how many sessions had begun before it
    Blocks own_blocks = 0;    // of the kept blocks, those that are not the group's
    bool holds = false;
  };
  [[nodiscard]] Known& at(SessionHandle handle) { return known_[static_cast<std::size_t>(handle)]; }
  [[nodiscard]] static std::vector<std::uint64_t> beginnings(const TurnRequest& request);
  SessionHandle resolve(ClientId client);
  void apply(const Event& event);
  void hold(SessionHandle session, const KeptBlocks& kept, Blocks own);
  void finish_copies(Seconds now);
  void tell(const CopyDone& event);
  void drop_copies(Seconds now);
  void start_copies(Seconds now);
  [[nodiscard]] Blocks host_blocks(SessionHandle session) const;  // room it takes there
  bool let_go(SessionHandle session);                             // false: it kept nothing
  bool stop_holding(Known& known);
  void leave_to_host(SessionHandle session);  // the same, of KV that is there as well
  void forget(Seconds now, SessionHandle session);
  void count_decisions();
  const std::string& tool_name(std::int32_t tool);

  KvCache& kv_;
  PolicyCore core_;
  std::unique_ptr<SwapSpace> swap_;  // null: the core does not swap
  Tokens block_tokens_;
  Bytes block_bytes_;
  Tokens step_tokens_;
  Tokens max_running_;
  Tokens everything_;
  bool keeps_;
  bool youngest_goes_first_;
  bool counting_;
  std::vector<Event> events_;
  std::vector<Known> known_;              // by session handle
  std::vector<SessionHandle> idle_;       // handles that are free, the last freed first
  std::vector<SessionHandle> of_client_;  // by client
  std::vector<std::string> tool_names_;
  std::vector<Tokens> context_;  // per running turn
  StepPlan plan_;
  std::int64_t begun_ = 0;  // sessions
  Blocks kept_blocks_ = 0;
  std::int64_t holders_ = 0;
  DecisionCounts decisions_;
};

}  // namespace lamps::sim
