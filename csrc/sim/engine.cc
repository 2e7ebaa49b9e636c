// SPDX-License-Identifier: Apache-2.0
// Turns coming in and ending; engine_schedule.cc plans steps.
#include "sim/engine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "lamps/errors.h"
#include "sim/slots.h"

namespace lamps::sim {
namespace {

// A policy that lets nobody in for so long has lost a request.
constexpr std::int64_t kMostIdleSteps = 10'000'000;

double product(Tokens tokens, Seconds seconds) { return static_cast<double>(tokens) * seconds; }

}  // namespace

EngineTotals& EngineTotals::operator+=(const EngineTotals& other) {
  steps += other.steps;
  empty_steps += other.empty_steps;
  preemptions += other.preemptions;
  busy += other.busy;
  prefill_tokens += other.prefill_tokens;
  output_tokens += other.output_tokens;
  cached_tokens += other.cached_tokens;
  loaded_tokens += other.loaded_tokens;
  recomputed_tokens += other.recomputed_tokens;
  recomputed_after_preemption += other.recomputed_after_preemption;
  running += other.running;
  held += other.held;
  cached += other.cached;
  empty += other.empty;
  host += other.host;
  return *this;
}

VirtualEngine::VirtualEngine(const EngineModel& model, Scheduling scheduling,
                             const Options& options, bool count_decisions)
    : model_(model),
      youngest_goes_first_(scheduling == Scheduling::kPriority),
      kv_(model),
      line_(scheduling) {
  if (scheduling == Scheduling::kCore) {
    core_ = std::make_unique<CoreDriver>(model, options, kv_, count_decisions);
    youngest_goes_first_ = core_->youngest_goes_first();
  }
}

void VirtualEngine::send(Seconds now, const TurnRequest& request) {
  inbox_.push_back(request);
  if (wakes_at_ == kForever) wakes_at_ = std::max(now, accounted_at_);
}

void VirtualEngine::client_gone(ClientId client) {
  kv_.client_gone(client);
  if (core_) core_->client_gone(client);
}

void VirtualEngine::rewritten(ClientId client, Tokens kept) {
  if (core_) {
    core_->rewritten(client, kept);
  } else {
    kv_.rewritten(client, kept, nullptr, nullptr);
  }
}

std::size_t VirtualEngine::waiting() const { return inbox_.size() + line_.size() + loads_.size(); }

Tokens VirtualEngine::stored_tokens() const {
  return kv_.tokens_in(core_ && core_->swap() ? core_->swap()->stored_blocks()
                                              : kv_.stored_blocks());
}

Occupancy VirtualEngine::occupancy() const {
  const BlockPool& pool = kv_.pool();
  const Blocks held = core_ ? core_->kept_blocks() : 0;
  return {.running = kv_.tokens_in(pool.total() - pool.free() - held),
          .held = kv_.tokens_in(held),
          .cached = kv_.tokens_in(pool.free() - pool.blank()),
          .empty = kv_.tokens_in(pool.blank()),
          .host = kv_.tokens_in(core_ && core_->swap() ? core_->swap()->host_blocks()
                                                       : kv_.host().used())};
}

void VirtualEngine::account(Seconds now) {
  const Seconds passed = now - accounted_at_;
  if (passed <= 0.0) return;
  accounted_at_ = now;
  const Occupancy here = occupancy();
  totals_.running += product(here.running, passed);
  totals_.held += product(here.held, passed);
  totals_.cached += product(here.cached, passed);
  totals_.empty += product(here.empty, passed);
  totals_.host += product(here.host, passed);
}

void VirtualEngine::take_in(Seconds now, const TurnRequest& request) {
  const TurnId id = take_slot(turns_, idle_);
  Turn& fresh = turn(id);
  fresh = {};
  fresh.tokens = fresh.prompt = request.prompt_tokens;
  fresh.target = request.prompt_tokens + request.output_tokens;
  fresh.known = request.known_tokens;
  fresh.client = request.client;
  fresh.number = request.number;
  fresh.record = request.record;
  fresh.tool = request.tool;
  fresh.called = request.called;
  fresh.final_hint = request.hint_final;
  kv_.attach(fresh, request);
  line_.add(id, fresh.number);
  if (core_) core_->arrived(now, id, fresh, request);
}

void VirtualEngine::observe(Seconds now, const Step& step) {
  if (core_) {
    // With steps in flight, a step starts when the one before it ends.
    core_->step_took(step.load, now - std::max(step.planned_at, last_update_));
  }
  last_update_ = now;
}

void VirtualEngine::finish(Seconds now, TurnId id) {
  Turn& done = turn(id);
  done.end = now;
  done.known = done.target - 1;
  if (!done.running) line_.remove(id, done.number);
  done.running = false;
  if (core_) {
    core_->finished(now, id, done);
  } else {
    kv_.free(done, now);
  }
  idle_.push_back(id);
  finished_.push_back(done);
}

// Steps are planned ahead: the output of a turn that was preempted meanwhile is delivered, but
// counts for nothing else.
void VirtualEngine::take_output(Turn& served, const Scheduled& each) {
  served.in_flight -= each.tokens;
  if (served.stale > 0) {
    served.stale -= each.tokens;
  } else if (each.samples) {
    --served.placeholders;
    kv_.commit(served, served.computed - served.placeholders);
  }
}

std::span<const Turn> VirtualEngine::end_step(Seconds now) {
  finished_.clear();
  if (in_flight_.empty() || in_flight_.front().ends_at > now) return finished_;
  account(now);
  Step step = std::move(in_flight_.front());
  in_flight_.pop_front();
  totals_.busy += step.seconds;
  observe(now, step);
  for (const Scheduled& each : step.turns) {
    Turn& served = turn(each.turn);
    if (model_.ahead) take_output(served, each);
    if (!each.samples) continue;
    if (served.tokens++ == served.prompt) served.first_token = now;
    ++totals_.output_tokens;
    if (served.tokens == served.target) finish(now, each.turn);
  }
  if (!finished_.empty()) {
    std::erase_if(running_, [this](TurnId id) { return !turn(id).running; });
  }
  spare_.push_back(std::move(step));
  return finished_;
}

void VirtualEngine::plan(Seconds now) {
  account(now);
  for (const TurnRequest& request : inbox_) take_in(now, request);
  inbox_.clear();
  const std::size_t depth = model_.ahead ? 2 : 1;
  do {
    if (running_.empty() && line_.size() == 0 && loads_.empty()) break;
    schedule(now);
    if (step_.turns.empty()) break;
    in_flight_.push_back(std::move(step_));
  } while (in_flight_.size() < depth);
  if (!in_flight_.empty()) {
    idle_streak_ = 0;
    Step& next = in_flight_.front();
    if (next.ends_at == kForever) next.ends_at = now + next.seconds;
    wakes_at_ = next.ends_at;
  } else if (running_.empty() && line_.size() == 0 && loads_.empty()) {
    wakes_at_ = kForever;
  } else {
    ++totals_.empty_steps;
    if (++idle_streak_ > kMostIdleSteps) {
      throw InvariantViolation("engine: nothing runs though " + std::to_string(waiting()) +
                               " turns wait");
    }
    wakes_at_ = now + model_.idle_step;
  }
}

void VirtualEngine::check_invariants() const {
  Blocks elsewhere =
      core_ ? core_->nameless_blocks() : 0;  // taken, but without content that the pool knows
  for (const Turn& each : turns_) {
    if (each.chain == kNoChain || each.room == 0) continue;
    elsewhere += each.room / model_.block_tokens - each.hashed + each.duplicates;
    if (each.computed > each.room || each.tokens > each.target ||
        each.hashed > each.room / model_.block_tokens) {
      throw InvariantViolation("engine: a turn has computed more than it has room for");
    }
  }
  kv_.pool().check_invariants(elsewhere);
  kv_.host().check_invariants();
  if (core_) core_->check_invariants();
  if (static_cast<Tokens>(running_.size()) > model_.max_running) {
    throw InvariantViolation("engine: more turns run than may");
  }
}

}  // namespace lamps::sim
