// SPDX-License-Identifier: Apache-2.0
// What is expected of a turn and of the call after it, learned while serving. Client hints are
// the caller's business; the rest of the core asks only the questions below.
//
// Durations of calls: tool -> requests that begin alike -> decade of the session's previous call ->
// kind of call -> prior. Output lengths: place in the session among requests that begin alike ->
// those requests -> decade of the previous call -> all -> prior. Every level is weighed by what it
// has seen (mixture.h), forgets, notices drift, and is switched off while it is worse than what it
// falls back to (level.h).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lamps/level_table.h"
#include "lamps/prompt_classes.h"
#include "lamps/types.h"

namespace lamps {

using ToolId = std::int32_t;
inline constexpr ToolId kNoTool = -1;

// What a session waits for between two turns.
enum class CallKind : std::uint8_t {
  kUnknown,
  kTool,    // a program answers
  kMessage  // a turn of a session that does call tools ended without a call: a person answers
};
inline constexpr std::size_t kCallKinds = 3;
[[nodiscard]] const char* to_string(CallKind kind);

// What is known of a turn before it runs, and of a call when it starts.
struct TurnFacts {
  int turn = 0;                        // 0 for a session's first turn
  Seconds last_call = -1.0;            // duration of the session's previous call; < 0: none yet
  ToolId tool = kNoTool;               // the tool called after this turn, once that is known
  CallKind kind = CallKind::kUnknown;  // of the call after this turn
  ClassId prompt = kNoClass;           // of requests that begin alike
  Tokens cap_tokens = 0;     // the client's max_tokens, a feature only, in coarse steps; <= 0: none
  bool calls_tools = false;  // a tool call was recognised in the session before
};

// What was seen at the end of a turn.
struct TurnEnd {
  bool readable = false;                      // somebody looked for tool calls
  std::span<const std::string_view> tools{};  // those found, in order; several: called in parallel
};

class Predictor {
 public:
  Predictor();

  // How finely facts are told apart.
  static constexpr std::size_t kGapBuckets = 10;   // decades of the previous call; 0: none yet
  static constexpr std::size_t kPlaces = 5;        // in a session: turn 0, 1, 2-3, 4-7, later
  static constexpr std::size_t kCaps = 4;          // steps of max_tokens
  static constexpr std::size_t kTurnBuckets = 16;  // turns whose returns are counted apart
  static constexpr auto kPrompts = static_cast<std::size_t>(PromptClasses::kMostClasses);

  // A dense id per tool name. At most kMaxTools names are told apart; later ones share the last id.
  static constexpr std::size_t kMaxTools = 10'000;
  ToolId tool_id(std::string_view name);
  // Tools called in parallel are one call, which returns with the last of them: an id of its own,
  // judged by the slowest of them until it has been seen itself.
  ToolId tool_id(std::span<const std::string_view> names);
  [[nodiscard]] std::string_view tool_name(ToolId tool) const;  // "" for kNoTool
  // The class of a new session's prompt; counts it.
  ClassId prompt_class(std::span<const std::uint64_t> beginnings) {
    return prompts_.classify(beginnings);
  }
  // The facts of the call after a turn that ended so. A tool named by the client stays.
  [[nodiscard]] TurnFacts at_end(TurnFacts facts, const TurnEnd& end);

  void observe_output(const TurnFacts& facts, Tokens tokens);
  void observe_call(const TurnFacts& facts, Seconds duration);
  void observe_no_return(const TurnFacts& facts);
  // Calls under way tell something, too: the longer nobody returns, the more likely nobody will.
  // Counts a call that has lasted `elapsed` for as much of an end as that says; `counted`: what it
  // counted for so far, 0 at first. Returns what it counts for now, in [0, 1). With elapsed 0 it is
  // withdrawn, which has to come before its end is observed.
  double observe_silence(const TurnFacts& facts, Seconds elapsed, double counted);

  // Expected tokens still to come after `produced`, >= 1.
  [[nodiscard]] double remaining_output(const TurnFacts& facts, double produced) const;
  // Expected seconds still to come of a call that has lasted `elapsed`, given that it returns, > 0.
  [[nodiscard]] Seconds remaining_call(const TurnFacts& facts, Seconds elapsed) const;
  // Smallest t with P(at most t more seconds, given that it returns) >= p, p in [0, 1).
  [[nodiscard]] Seconds call_quantile(const TurnFacts& facts, Seconds elapsed, double p) const;
  // What a call's duration is expected to be, for many questions at once; good until the next
  // observation. remaining_call, still_out and call_quantile ask it.
  [[nodiscard]] Mixture calls(const TurnFacts& facts) const;
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

  // --- how good the predictions are ---
  struct Score {
    std::string what;  // "tool", "call", "output"
    std::string name;  // of the tool, the kind of call, the class of requests
    Calibration calibration;
    double gain = 0.0;  // over the level's fallback, nats per observation
    std::int64_t drifts = 0;
    bool off = false;
  };
  [[nodiscard]] std::vector<Score> scores() const;  // of everything that was scored
  // Levels that were switched off or on since the last call, oldest first; at most kMostSwitches.
  struct Switch {
    std::string what;  // as in Score
    std::string name;
    bool off = false;
  };
  static constexpr std::size_t kMostSwitches = 64;
  [[nodiscard]] std::vector<Switch> take_switches() { return std::exchange(switches_, {}); }
  // Of calls whose probability of a return was in [i/10, (i+1)/10) at their start: how many
  // returned and how many did not.
  struct ReturnScore {
    std::int64_t returned = 0;
    std::int64_t ended = 0;
  };
  [[nodiscard]] const std::array<ReturnScore, 10>& return_scores() const { return return_scores_; }

 private:
  friend class SnapshotWriter;
  friend class SnapshotReader;

  enum Table : std::size_t {
    kByTool,
    kByPrompt,
    kByGap,
    kByKind,
    kOutTurn,
    kOutPrompt,
    kOutGap,
    kOutAny
  };
  static constexpr std::size_t kTables = 8;
  // Where facts belong, most special first.
  struct Key {
    Table table;
    std::size_t key;
    bool learns;  // else: asked, but not told what happened
  };
  struct Keys {
    std::array<Key, Mixture::kMostParts - 1> list{};
    std::size_t size = 0;
    void add(Table table, std::size_t key, bool learns = true) {
      list[size++] = {table, key, learns};
    }
    [[nodiscard]] std::span<const Key> all() const { return {list.data(), size}; }
  };
  [[nodiscard]] Keys call_keys(const TurnFacts& facts) const;
  [[nodiscard]] static Keys output_keys(const TurnFacts& facts);
  // What is believed at the keys from the `from`-th on.
  [[nodiscard]] Mixture mixture(const Keys& keys, std::size_t from,
                                const LogHistogram& prior) const;
  [[nodiscard]] Mixture outputs(const TurnFacts& facts) const;
  void learn(const Keys& keys, const LogHistogram& prior, double value);
  void observe_return(const TurnFacts& facts, bool came_back);
  // All counts of returns that such a call belongs to: observe(count, forgetting).
  template <typename Observe>
  void at_return_counts(const TurnFacts& facts, const Observe& observe);
  [[nodiscard]] static const char* what(Table table);  // its levels predict, as in Score
  [[nodiscard]] std::string name_of(Table table, std::size_t key) const;
  [[nodiscard]] double prior_p_return(const TurnFacts& facts) const;
  [[nodiscard]] double still_out_of_all(const TurnFacts& facts, Seconds elapsed) const;
  [[nodiscard]] const LogHistogram& call_prior(const TurnFacts& facts) const;

  std::vector<LevelTable> tables_;
  std::array<LogHistogram, kCallKinds> call_priors_;
  LogHistogram output_prior_;
  std::array<std::array<ReturnCount, kTurnBuckets>, kCallKinds> return_by_turn_{};
  std::array<ReturnScore, 10> return_scores_{};
  std::vector<Switch> switches_;
  std::int64_t calls_seen_ = 0;
  PromptClasses prompts_;
  std::vector<bool> prompt_calls_tools_;  // by class: a tool call was recognised there
  std::unordered_map<std::string, ToolId> tools_;
  std::vector<std::string> tool_names_;
  std::vector<std::vector<ToolId>> tool_parts_;  // of tools called in parallel; else empty
};

}  // namespace lamps
