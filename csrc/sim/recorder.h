// SPDX-License-Identifier: Apache-2.0
// What a simulation keeps of its turns and sessions: one row each, or only their distribution.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "lamps/types.h"
#include "sim/engine.h"
#include "sim/turn.h"

namespace lamps::sim {

// Counts of a positive quantity in bins 2 % wide; mean and extremes are exact.
class Distribution {
 public:
  static constexpr double kLow = 1e-4, kHigh = 1e6;  // what lies beyond falls into the end bins
  Distribution();

  void add(double value);  // negative counts as 0
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] double mean() const;
  [[nodiscard]] double max() const { return max_; }
  // Smallest x with P(X <= x) >= q, log-linear within a bin; q in [0, 1]; 0 when empty.
  [[nodiscard]] double quantile(double q) const;
  [[nodiscard]] const std::vector<std::int64_t>& counts() const { return counts_; }
  [[nodiscard]] static double edge(std::size_t bin);  // lower edge; of the first bin kLow

 private:
  std::vector<std::int64_t> counts_;
  std::int64_t count_ = 0;
  double sum_ = 0.0;
  double min_ = 0.0;
  double max_ = 0.0;
};

struct Distributions {
  Distribution session;                // seconds from its start to its last token
  Distribution session_without_tools;  // the same without the seconds of its calls
  Distribution first_ttft;             // of the first turn: seconds from sending to the first token
  Distribution tool_ttft;              // of the others
  Distribution turn;                   // seconds from sending to the last token
};

// By column; rows in the order in which turns were sent and sessions started.
struct TurnColumns {
  std::vector<std::int64_t> session;
  std::vector<std::int32_t> segment, engine;
  std::vector<Seconds> sent, admitted, first_token, end;
  std::vector<std::int32_t> prompt_tokens, output_tokens, cached_tokens, loaded_tokens,
      recomputed_tokens, preemptions;
};

struct SessionColumns {
  std::vector<std::int64_t> row;  // of the session table
  std::vector<Seconds> arrival, end, tool_seconds;
};

struct SampleColumns {
  std::vector<Seconds> at;
  std::vector<std::int32_t> engine, running, waiting, paused_holding;
  std::vector<Tokens> running_tokens, held_tokens, cached_tokens, empty_tokens, host_tokens;
};

class Recorder {
 public:
  Recorder(bool rows, Seconds sample_every);  // 0: no samples

  struct Sent {
    std::int64_t session;
    std::int32_t segment;
    std::int32_t engine;
    Seconds at;
  };
  // Row of a turn that was sent; what turn_ended() wants back in Turn::record.
  std::int64_t turn_sent(const Sent& sent);
  void turn_ended(const Turn& turn, Seconds sent_at, bool first);
  void session_started(std::int64_t row, Seconds at);  // in order of their running numbers
  void session_ended(std::int64_t number, Seconds started, Seconds tool_seconds, Seconds now);

  // The instant of the next sample; kForever without samples. Spacing doubles when there are many.
  [[nodiscard]] Seconds sample_at() const { return sample_at_; }
  void sample(const std::deque<VirtualEngine>& engines);

  [[nodiscard]] const Distributions& distributions() const { return distributions_; }
  [[nodiscard]] const TurnColumns& turns() const { return turns_; }
  [[nodiscard]] const SessionColumns& sessions() const { return sessions_; }
  [[nodiscard]] const SampleColumns& samples() const { return samples_; }
  [[nodiscard]] std::int64_t sent() const { return sent_; }

 private:
  void thin_out();

  bool rows_;
  Seconds every_;
  Seconds sample_at_;
  std::int64_t sent_ = 0;
  std::size_t instants_ = 0;
  Distributions distributions_;
  TurnColumns turns_;
  SessionColumns sessions_;
  SampleColumns samples_;
};

}  // namespace lamps::sim
