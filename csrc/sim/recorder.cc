// SPDX-License-Identifier: Apache-2.0
#include "sim/recorder.h"

#include <algorithm>
#include <cmath>

namespace lamps::sim {
namespace {

constexpr std::size_t kMostInstants = 8192;
const double kLogWidth = std::log(1.02);

std::size_t bins() {
  return static_cast<std::size_t>(
             std::ceil(std::log(Distribution::kHigh / Distribution::kLow) / kLogWidth)) +
         1;
}

template <typename T>
void keep_every_second(std::vector<T>& column, std::size_t group) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < column.size(); ++i) {
    if (i / group % 2 == 0) column[kept++] = column[i];
  }
  column.resize(kept);
}

std::int32_t narrow(Tokens tokens) { return static_cast<std::int32_t>(tokens); }

}  // namespace

Distribution::Distribution() : counts_(bins(), 0) {}

double Distribution::edge(std::size_t bin) {
  return kLow * std::exp(static_cast<double>(bin) * kLogWidth);
}

void Distribution::add(double value) {
  value = std::max(value, 0.0);
  const double position = value > kLow ? std::log(value / kLow) / kLogWidth : 0.0;
  ++counts_[std::min(static_cast<std::size_t>(position), counts_.size() - 1)];
  min_ = count_ == 0 ? value : std::min(min_, value);
  max_ = std::max(max_, value);
  sum_ += value;
  ++count_;
}

double Distribution::mean() const { return count_ == 0 ? 0.0 : sum_ / static_cast<double>(count_); }

double Distribution::quantile(double q) const {
  if (count_ == 0) return 0.0;
  const double wanted = std::clamp(q, 0.0, 1.0) * static_cast<double>(count_);
  double below = 0.0;
  for (std::size_t bin = 0; bin < counts_.size(); ++bin) {
    const auto here = static_cast<double>(counts_[bin]);
    if (here > 0 && below + here >= wanted) {
      const double share = (wanted - below) / here;
      return std::clamp(edge(bin) * std::exp(share * kLogWidth), min_, max_);
    }
    below += here;
  }
  return max_;
}

Recorder::Recorder(bool rows, Seconds sample_every)
    : rows_(rows), every_(sample_every), sample_at_(sample_every > 0 ? 0.0 : kForever) {}

std::int64_t Recorder::turn_sent(const Sent& sent) {
  const std::int64_t row = sent_++;
  if (!rows_) return row;
  turns_.session.push_back(sent.session);
  turns_.segment.push_back(sent.segment);
  turns_.engine.push_back(sent.engine);
  turns_.sent.push_back(sent.at);
  for (auto* column : {&turns_.admitted, &turns_.first_token, &turns_.end}) {
    column->push_back(kNever);
  }
  for (auto* column : {&turns_.prompt_tokens, &turns_.output_tokens, &turns_.cached_tokens,
                       &turns_.loaded_tokens, &turns_.recomputed_tokens, &turns_.preemptions}) {
    column->push_back(0);
  }
  return row;
}

void Recorder::turn_ended(const Turn& turn, Seconds sent_at, bool first) {
  (first ? distributions_.first_ttft : distributions_.tool_ttft).add(turn.first_token - sent_at);
  distributions_.turn.add(turn.end - sent_at);
  if (!rows_) return;
  const auto row = static_cast<std::size_t>(turn.record);
  turns_.admitted[row] = turn.admitted;
  turns_.first_token[row] = turn.first_token;
  turns_.end[row] = turn.end;
  turns_.prompt_tokens[row] = narrow(turn.prompt);
  turns_.output_tokens[row] = narrow(turn.target - turn.prompt);
  turns_.cached_tokens[row] = narrow(turn.cached);
  turns_.loaded_tokens[row] = narrow(turn.loaded);
  turns_.recomputed_tokens[row] = narrow(turn.recomputed);
  turns_.preemptions[row] = turn.preemptions;
}

void Recorder::session_started(std::int64_t row, Seconds at) {
  if (!rows_) return;
  sessions_.row.push_back(row);
  sessions_.arrival.push_back(at);
  sessions_.end.push_back(kNever);
  sessions_.tool_seconds.push_back(0.0);
}

void Recorder::session_ended(std::int64_t number, Seconds started, Seconds tool_seconds,
                             Seconds now) {
  distributions_.session.add(now - started);
  distributions_.session_without_tools.add(now - started - tool_seconds);
  if (!rows_) return;
  sessions_.end[static_cast<std::size_t>(number)] = now;
  sessions_.tool_seconds[static_cast<std::size_t>(number)] = tool_seconds;
}

void Recorder::sample(const std::deque<VirtualEngine>& engines) {
  for (std::size_t i = 0; i < engines.size(); ++i) {
    const VirtualEngine& engine = engines[i];
    const Occupancy here = engine.occupancy();
    samples_.at.push_back(sample_at_);
    samples_.engine.push_back(static_cast<std::int32_t>(i));
    samples_.running.push_back(static_cast<std::int32_t>(engine.running()));
    samples_.waiting.push_back(static_cast<std::int32_t>(engine.waiting()));
    samples_.paused_holding.push_back(
        engine.core() ? static_cast<std::int32_t>(engine.core()->holders()) : 0);
    samples_.running_tokens.push_back(here.running);
    samples_.held_tokens.push_back(here.held);
    samples_.cached_tokens.push_back(here.cached);
    samples_.empty_tokens.push_back(here.empty);
    samples_.host_tokens.push_back(here.host);
  }
  sample_at_ += every_;
  if (++instants_ == kMostInstants) thin_out();
}

void Recorder::thin_out() {
  const std::size_t engines = samples_.at.size() / instants_;
  for (auto* column :
       {&samples_.engine, &samples_.running, &samples_.waiting, &samples_.paused_holding}) {
    keep_every_second(*column, engines);
  }
  for (auto* column : {&samples_.running_tokens, &samples_.held_tokens, &samples_.cached_tokens,
                       &samples_.empty_tokens, &samples_.host_tokens}) {
    keep_every_second(*column, engines);
  }
  keep_every_second(samples_.at, engines);
  instants_ /= 2;
  every_ *= 2.0;
}

}  // namespace lamps::sim
