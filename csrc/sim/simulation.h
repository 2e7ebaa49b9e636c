// SPDX-License-Identifier: Apache-2.0
// A whole experiment: sessions, a router, engines. Deterministic: the same arguments give the same
// result, bit by bit, on the same machine.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "lamps/options.h"
#include "sim/engine.h"
#include "sim/engine_model.h"
#include "sim/recorder.h"
#include "sim/workload.h"

namespace lamps::sim {

struct SimulationOptions {
  Scheduling scheduling = Scheduling::kCore;
  Routing routing = Routing::kSticky;
  std::int64_t engines = 1;       // [1, 10'000]
  bool record_turns = true;       // false: distributions only, in bounded memory
  Seconds sample_seconds = 0.0;   // [0, 1e9]; > 0: a time series of the memory
  bool record_decisions = false;  // count what the policy core decides
  std::int64_t check_every = 0;   // [0, 1e9]; > 0: check_invariants() every so many steps

  void validate() const;  // throws InvalidOption
};

struct Progress {
  Seconds now;
  std::int64_t sessions_ended;
  std::int64_t sessions;
};

class Simulation {
 public:
  // Keeps a reference to `table`. Throws InvalidOption.
  Simulation(const EngineModel& engine, const SessionTable& table, const Load& load,
             const Options& policy, const SimulationOptions& options);

  // Runs to the end of the last session, or until `progress` (may be empty), which is called every
  // so many steps ([1, 1e12]), says false. Once.
  void run(const std::function<bool(const Progress&)>& progress, std::int64_t every_steps);

  [[nodiscard]] bool complete() const { return ended_ == source_.total(); }
  [[nodiscard]] Seconds now() const { return now_; }
  [[nodiscard]] std::int64_t sessions_ended() const { return ended_; }
  [[nodiscard]] const Recorder& recorder() const { return recorder_; }
  [[nodiscard]] const std::deque<VirtualEngine>& engines() const { return engines_; }
  void check_invariants() const;  // throws InvariantViolation

 private:
  struct Client {  // a session that has started and not ended
    std::int64_t number = 0;
    std::int64_t row = 0;
    std::int64_t segment = 0;  // of the table: the one to send next, or under way
    Tokens context = 0;        // prompts and outputs before that segment
    Tokens known = 0;          // of these, positions whose KV was computed
    Tokens shared = 0;         // leading ones that the group has, too
    Seconds started = 0;
    Seconds sent_at = 0;
    Seconds tool_seconds = 0;
    std::int32_t engine = kNoHandle;  // the one that served it last
  };
  struct Due {
    Seconds at;
    std::int64_t number;
    ClientId client;
    [[nodiscard]] bool operator>(const Due& other) const {
      return at != other.at ? at > other.at : number > other.number;
    }
  };
  [[nodiscard]] Client& client(ClientId id) { return clients_[static_cast<std::size_t>(id)]; }
  [[nodiscard]] Seconds next_send() const;
  void send_next();
  void start_session();
  void send_turn(ClientId id, Seconds now);
  void rewrite_history(ClientId id);
  [[nodiscard]] std::size_t route(const Client& from);
  void serve(std::size_t engine);
  void turn_ended(const Turn& turn);
  void end_session(ClientId id, Seconds now);

  const SessionTable& table_;
  SimulationOptions options_;
  SessionSource source_;
  Recorder recorder_;
  std::deque<VirtualEngine> engines_;  // their addresses must not change
  std::vector<Client> clients_;
  std::vector<ClientId> idle_;
  std::vector<Due> dues_;        // heap, the earliest first
  std::size_t next_engine_ = 0;  // kRoundRobin
  Seconds now_ = 0.0;
  std::int64_t ended_ = 0;
};

}  // namespace lamps::sim
