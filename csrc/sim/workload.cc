// SPDX-License-Identifier: Apache-2.0
#include "sim/workload.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>

#include "lamps/errors.h"

namespace lamps::sim {
namespace {

constexpr std::array<std::string_view, 3> kStarts = {"given", "poisson", "closed"};

template <typename T>
void require_length(const char* name, const std::vector<T>& column, std::int64_t wanted,
                    bool optional) {
  if (optional && column.empty()) return;
  if (static_cast<std::int64_t>(column.size()) == wanted) return;
  throw InvalidOption(std::string(name) + " has " + std::to_string(column.size()) +
                      " entries: expected " + std::to_string(wanted));
}

template <typename T>
void require_entries(const char* name, const std::vector<T>& column, double low, double high) {
  for (std::size_t i = 0; i < column.size(); ++i) {
    const auto value = static_cast<double>(column[i]);
    if (value >= low && value <= high) continue;
    require_in_range((std::string(name) + "[" + std::to_string(i) + "]").c_str(), value, low, high);
  }
}

}  // namespace

std::span<const std::string_view> starts_names() { return kStarts; }

Starts starts_from(std::string_view name) {
  const auto found = std::find(kStarts.begin(), kStarts.end(), name);
  if (found != kStarts.end()) return static_cast<Starts>(found - kStarts.begin());
  throw InvalidOption("load = \"" + std::string(name) +
                      "\": expected one of given, poisson, closed");
}

void SessionTable::validate(const EngineModel& engine) const {
  if (sessions() < 1) throw InvalidOption("first_segment has no session: expected at least one");
  const std::int64_t n = sessions(), m = segments();
  require_length("output_tokens", output_tokens, m, false);
  require_length("call_seconds", call_seconds, m, false);
  require_length("arrival", arrival, n, true);
  require_length("kept_tokens", kept_tokens, m, true);
  require_length("tool", tool, m, true);
  require_length("called", called, m, true);
  require_length("hint_output", hint_output, m, true);
  require_length("hint_call", hint_call, m, true);
  require_length("hint_final", hint_final, m, true);
  require_length("shared_group", shared_group, n, true);
  require_length("shared_tokens", shared_tokens, static_cast<std::int64_t>(shared_group.size()),
                 false);
  const auto longest = static_cast<double>(engine.max_context);
  require_entries("prompt_tokens", prompt_tokens, 1, longest);
  require_entries("output_tokens", output_tokens, 1, longest);
  require_entries("arrival", arrival, 0, 1e12);
  require_entries("tool", tool, -1, kMostTools - 1);
  require_entries("called", called, -1, kMostTools - 1);
  require_entries("shared_group", shared_group, -1, 1e6);
  require_entries("shared_tokens", shared_tokens, 0, 1e9);
  if (first_segment.front() != 0 || first_segment.back() != m) {
    throw InvalidOption("first_segment must begin with 0 and end with " + std::to_string(m) +
                        ", the number of segments");
  }
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t first = first_segment[static_cast<std::size_t>(i)];
    const std::int64_t end = first_segment[static_cast<std::size_t>(i) + 1];
    const std::string name = "session " + std::to_string(i);
    require_in_range((name + ": number of segments").c_str(), static_cast<double>(end - first), 1,
                     1e9);
    double context = 0.0;
    for (auto s = static_cast<std::size_t>(first); s < static_cast<std::size_t>(end); ++s) {
      if (!kept_tokens.empty() && kept_tokens[s] >= 0) {
        context = std::min(context, static_cast<double>(kept_tokens[s]));
      }
      context += prompt_tokens[s] + output_tokens[s];
      require_in_range((name + ": context").c_str(), context, 2, longest);
      if (static_cast<std::int64_t>(s) + 1 == end) break;
      require_in_range((name + ": call_seconds").c_str(), call_seconds[s], 0.0, 1e9);
    }
  }
}

SessionSource::SessionSource(const SessionTable& table, const Load& load)
    : table_(table),
      load_(load),
      total_(load.sessions > 0 ? load.sessions : table.sessions()),
      random_(load.seed),
      open_slots_(load.concurrency) {
  require_in_range("sessions", static_cast<double>(load.sessions), 0, 1e12);
  if (load.starts == Starts::kGiven) {
    if (table.arrival.empty()) throw InvalidOption("load = \"given\": needs the column arrival");
    require_in_range("sessions", static_cast<double>(total_), 0,
                     static_cast<double>(table.sessions()));
    by_arrival_.resize(static_cast<std::size_t>(table.sessions()));
    std::iota(by_arrival_.begin(), by_arrival_.end(), 0);
    std::stable_sort(by_arrival_.begin(), by_arrival_.end(), [&](std::int64_t a, std::int64_t b) {
      return table.arrival[static_cast<std::size_t>(a)] <
             table.arrival[static_cast<std::size_t>(b)];
    });
  } else if (load.starts == Starts::kPoisson) {
    require_in_range("rate", load.rate, 1e-9, 1e9);
  } else {
    require_in_range("concurrency", static_cast<double>(load.concurrency), 1, 1e7);
  }
  prepare_next();
}

// By inversion: the standard library's exponential_distribution differs between libraries, and a
// seed must give the same arrivals everywhere.
Seconds SessionSource::exponential() {
  constexpr double kUnit = 0x1.0p-53;
  const double uniform = static_cast<double>(random_() >> 11) * kUnit;  // [0, 1)
  return -std::log1p(-uniform) / load_.rate;
}

void SessionSource::prepare_next() {
  if (empty()) return;
  next_.row = next_.number % table_.sessions();
  switch (load_.starts) {
    case Starts::kGiven:
      next_.row = by_arrival_[static_cast<std::size_t>(next_.number)];
      next_.at = table_.arrival[static_cast<std::size_t>(next_.row)];
      break;
    case Starts::kPoisson:
      next_.at += exponential();
      break;
    case Starts::kClosed:
      if (open_slots_ == 0) next_.at = kForever;
      break;
  }
}

SessionSource::Start SessionSource::pop() {
  const Start start = next_;
  ++next_.number;
  if (open_slots_ > 0) --open_slots_;
  prepare_next();
  return start;
}

void SessionSource::ended(Seconds now) {
  if (load_.starts != Starts::kClosed) return;
  if (open_slots_++ == 0) next_.at = now;
}

}  // namespace lamps::sim
