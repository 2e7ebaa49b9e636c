// SPDX-License-Identifier: Apache-2.0
// What is expected of a turn and of the call after it. At this stage: online distributions per
// class with a global fallback, overridden by client hints. Better predictors take this class's
// place: the rest of the core asks only the questions below.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lamps/log_histogram.h"
#include "lamps/types.h"

namespace lamps {

using ToolId = std::int32_t;
inline constexpr ToolId kNoTool = -1;

// What is known of a turn before it runs, and of a call when it starts.
struct TurnFacts {
  int turn = 0;              // 0 for a session's first turn
  Seconds last_call = -1.0;  // duration of the session's previous call; < 0: none yet
  ToolId tool = kNoTool;     // the tool called after this turn, where the client says so
};

class Predictor {
 public:
  Predictor();

  // A dense id per tool name. At most kMaxTools names are told apart; later ones share the last id.
  static constexpr std::size_t kMaxTools = 10'000;
  ToolId tool_id(std::string_view name);

  void observe_output(const TurnFacts& facts, Tokens tokens);
  void observe_call(const TurnFacts& facts, Seconds duration);
  void observe_no_return(const TurnFacts& facts);

  // Expected tokens still to come after `produced`, >= 1.
  [[nodiscard]] double remaining_output(const TurnFacts& facts, double produced) const;
  // Expected seconds still to come of a call that has lasted `elapsed`, given that it returns, > 0.
  [[nodiscard]] Seconds remaining_call(const TurnFacts& facts, Seconds elapsed) const;
  // Probability that the session returns at all, given that it has not for `elapsed` seconds.
  [[nodiscard]] double p_return(const TurnFacts& facts, Seconds elapsed) const;
  // P(a call that has lasted `elapsed` is still running `later` seconds from now, given that the
  // session returns). 1 at later = 0.
  [[nodiscard]] double still_out(const TurnFacts& facts, Seconds elapsed, Seconds later) const;
  // Expected number of further turns of the session after the next call.
  [[nodiscard]] double further_turns(const TurnFacts& facts) const;
  // Calls that have ended since the start.
  [[nodiscard]] std::int64_t calls_seen() const { return calls_seen_; }
  // After this many seconds without a return a session is taken as ended.
  [[nodiscard]] Seconds patience() const;

 private:
  struct ReturnCount {
    double returned = 0.0;
    double ended = 0.0;
  };
  struct CallClass {
    LogHistogram duration;
    ReturnCount count;
    CallClass();
  };
  [[nodiscard]] static std::size_t gap_bucket(Seconds last_call);
  [[nodiscard]] static std::size_t turn_bucket(int turn);
  [[nodiscard]] const CallClass& call_class(const TurnFacts& facts) const;
  CallClass& call_class(const TurnFacts& facts);
  [[nodiscard]] double prior_p_return(const TurnFacts& facts) const;

  static constexpr std::size_t kGapBuckets = 10;  // decades of the previous call; 0: none yet
  static constexpr std::size_t kTurnBuckets = 16;
  std::vector<CallClass> by_gap_;  // sessions behave as they did before
  std::vector<CallClass> by_tool_;
  std::vector<LogHistogram> output_by_gap_;  // first turns and each decade of the last call
  std::vector<ReturnCount> return_by_turn_;
  CallClass any_call_;
  LogHistogram any_output_;
  std::int64_t calls_seen_ = 0;
  std::unordered_map<std::string, ToolId> tools_;
};

}  // namespace lamps
