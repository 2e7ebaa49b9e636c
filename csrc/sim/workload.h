// SPDX-License-Identifier: Apache-2.0
// What the clients do: a table of sessions, and when each of them starts.
#pragma once

#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "lamps/types.h"
#include "sim/engine_model.h"

namespace lamps::sim {

// Sessions by column. Segments of session i are [first_segment[i], first_segment[i + 1]); columns
// marked optional are empty or as long as the others.
struct SessionTable {
  static constexpr std::int32_t kMostTools = 10'000;  // what the predictor tells apart

  std::vector<std::int64_t> first_segment;  // one more than sessions
  std::vector<std::int32_t> prompt_tokens;  // new tokens of the turn, [1, max_context]
  std::vector<std::int32_t> output_tokens;  // [1, max_context]
  std::vector<Seconds> call_seconds;  // pause after the turn, [0, 1e9]; the last one's is unused
  std::vector<std::int32_t> kept_tokens;   // optional; < 0: the prompt is the whole context and the
                                           // new tokens; k >= 0: only the first k tokens of the
                                           // context and the new tokens (history was rewritten)
  std::vector<Seconds> arrival;            // optional, per session; needed by Starts::kGiven
  std::vector<std::int32_t> tool;          // optional; class of the call, -1: none
  std::vector<std::int32_t> called;        // optional; class of the call that is read from the
                                           // turn's tokens at its end, -1: they show none, as a
                                           // last turn's do; empty: nobody reads them
  std::vector<double> hint_output;         // optional; what the client predicts, < 0: nothing
  std::vector<Seconds> hint_call;          // optional; the same
  std::vector<std::uint8_t> hint_final;    // optional; the client says that no call follows
  std::vector<std::int32_t> shared_group;  // optional, per session; -1: none, [-1, 1e6]
  std::vector<std::int32_t> shared_tokens;  // per session, with shared_group: leading tokens of the
                                            // first prompt that all of the group have, >= 0
  bool tool_hints = false;                  // the client names its tools

  [[nodiscard]] std::int64_t sessions() const {
    return static_cast<std::int64_t>(first_segment.size()) - 1;
  }
  [[nodiscard]] std::int64_t segments() const {
    return static_cast<std::int64_t>(prompt_tokens.size());
  }
  // Throws InvalidOption naming the column, the row and what it accepts.
  void validate(const EngineModel& engine) const;
};

// kGiven: at `arrival`. kPoisson: rate per second, in the order of the table. kClosed:
// `concurrency` sessions at once from time 0, the next one starts when one ends.
enum class Starts : std::uint8_t { kGiven, kPoisson, kClosed };
[[nodiscard]] std::span<const std::string_view> starts_names();
[[nodiscard]] Starts starts_from(std::string_view name);  // throws InvalidOption

struct Load {
  Starts starts = Starts::kGiven;
  double rate = 0.0;             // kPoisson: sessions per second, [1e-9, 1e9]
  std::int64_t concurrency = 0;  // kClosed: [1, 1e7]
  std::int64_t sessions = 0;  // how many in all, [0, 1e12]; 0: the table once; more than the table
                              // has: it is replayed from the start (not with kGiven)
  std::uint64_t seed = 0;     // kPoisson
};

// Hands out sessions in order of their start, with memory for the table only.
class SessionSource {
 public:
  // Keeps references: `table` must outlive it. Throws InvalidOption.
  SessionSource(const SessionTable& table, const Load& load);

  struct Start {
    std::int64_t number;  // running number, from 0
    std::int64_t row;     // of the table
    Seconds at;
  };
  [[nodiscard]] std::int64_t total() const { return total_; }
  [[nodiscard]] bool empty() const { return next_.number >= total_; }
  // The next session that starts by itself; kForever in a closed loop that is full.
  [[nodiscard]] Seconds next_at() const { return empty() ? kForever : next_.at; }
  Start pop();              // of a source with next_at() < kForever
  void ended(Seconds now);  // a session has ended: a closed loop starts the next one

 private:
  void prepare_next();
  [[nodiscard]] Seconds exponential();

  const SessionTable& table_;
  Load load_;
  std::int64_t total_;
  std::vector<std::int64_t> by_arrival_;  // kGiven: rows in order of arrival, ties by row
  std::mt19937_64 random_;
  std::int64_t open_slots_;  // kClosed: sessions that may start at `next_.at`
  Start next_{0, 0, 0.0};
};

}  // namespace lamps::sim
