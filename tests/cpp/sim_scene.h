// SPDX-License-Identifier: Apache-2.0
// Small engines and session tables for the tests of the simulator.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "sim/simulation.h"

namespace lamps::sim::testing {

// Steps of 1 s plus 1 ms per prefill token and 10 ms per request: easy to add up by hand.
inline EngineModel small_engine(Tokens blocks, Tokens block_tokens = 4) {
  EngineModel engine;
  engine.capacity_tokens = blocks * block_tokens;
  engine.block_tokens = block_tokens;
  engine.max_context = engine.capacity_tokens;
  engine.step_tokens = 64;
  engine.max_running = 8;
  engine.cost.base = 1.0;
  engine.cost.per_prefill = 0.001;
  engine.cost.per_decode = 0.01;
  engine.idle_step = 0.5;
  return engine;
}

struct Segment {
  std::int32_t prompt;
  std::int32_t output;
  Seconds call = 0.0;
  std::int32_t kept = -1;
};

class TableBuilder {
 public:
  TableBuilder& session(Seconds arrival, const std::vector<Segment>& segments,
                        std::int32_t group = -1, std::int32_t shared = 0) {
    if (table_.first_segment.empty()) table_.first_segment.push_back(0);
    for (const Segment& each : segments) {
      table_.prompt_tokens.push_back(each.prompt);
      table_.output_tokens.push_back(each.output);
      table_.call_seconds.push_back(each.call);
      table_.kept_tokens.push_back(each.kept);
    }
    table_.first_segment.push_back(table_.segments());
    table_.arrival.push_back(arrival);
    table_.shared_group.push_back(group);
    table_.shared_tokens.push_back(shared);
    return *this;
  }
  [[nodiscard]] const SessionTable& table() const { return table_; }

 private:
  SessionTable table_;
};

// Sessions of a few turns with everything a table can say, from one seed.
inline SessionTable random_table(std::uint64_t seed, int sessions, Tokens longest) {
  std::mt19937_64 random(seed);
  const auto between = [&](int low, int high) {
    return low + static_cast<int>(random() % static_cast<std::uint64_t>(high - low + 1));
  };
  TableBuilder builder;
  for (int i = 0; i < sessions; ++i) {
    std::vector<Segment> segments;
    Tokens left = longest - 4;
    for (int turn = between(1, 5); turn > 0 && left > 2; --turn) {
      const auto most = static_cast<int>(left / 2);
      const Segment segment{between(1, most), between(1, std::min(most, 40)),
                            between(0, 3) == 0 ? 0.0 : 0.3 * between(1, 40),
                            between(0, 9) == 0 ? between(0, 60) : -1};
      segments.push_back(segment);
      left -= segment.prompt + segment.output;
    }
    builder.session(0.25 * between(0, sessions), segments, between(-1, 2), between(0, 50));
  }
  return builder.table();
}

struct RowTimes {
  Seconds admitted, first_token, end;
};

// Times of the only turns of sessions, by number.
inline std::vector<RowTimes> times_of(const Simulation& simulation) {
  const TurnColumns& turns = simulation.recorder().turns();
  std::vector<RowTimes> rows;
  for (std::size_t i = 0; i < turns.end.size(); ++i) {
    rows.push_back({turns.admitted[i], turns.first_token[i], turns.end[i]});
  }
  return rows;
}

}  // namespace lamps::sim::testing
