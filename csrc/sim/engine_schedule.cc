// SPDX-License-Identifier: Apache-2.0
// Planning of a step.
#include <algorithm>
#include <cmath>
#include <utility>

#include "sim/engine.h"

namespace lamps::sim {

void VirtualEngine::put(TurnId id, Tokens tokens) {
  Turn& served = turn(id);
  if (served.computed < served.known) {
    const Tokens again = std::min(tokens, served.known - served.computed);
    served.recomputed += again;
    totals_.recomputed_tokens += again;
    if (served.preemptions > 0) totals_.recomputed_after_preemption += again;
  }
  served.computed += tokens;
  const bool samples = served.computed == served.tokens + served.placeholders;
  if (model_.ahead) {
    served.in_flight += tokens;
    if (samples) ++served.placeholders;
  }
  step_.turns.push_back({id, static_cast<std::int32_t>(tokens), samples});
  budget_ -= tokens;
}

// A turn that was given tokens in this step is preempted in it (by priority).
void VirtualEngine::unschedule(TurnId id) {
  const auto place = std::find_if(step_.turns.begin(), step_.turns.end(),
                                  [=](const Scheduled& each) { return each.turn == id; });
  if (place == step_.turns.end()) return;
  budget_ += place->tokens;
  if (model_.ahead) turn(id).in_flight -= place->tokens;
  step_.turns.erase(place);
}

std::size_t VirtualEngine::victim() const {
  if (!youngest_goes_first_) return running_.size() - 1;
  const auto youngest =
      std::max_element(running_.begin(), running_.end(), [this](TurnId a, TurnId b) {
        return turns_[static_cast<std::size_t>(a)].number <
               turns_[static_cast<std::size_t>(b)].number;
      });
  return static_cast<std::size_t>(youngest - running_.begin());
}

void VirtualEngine::preempt(Seconds now, TurnId id) {
  Turn& loser = turn(id);
  unschedule(id);
  loser.known = std::max(loser.known, loser.computed);
  kv_.free(loser, now);
  loser.computed = 0;
  loser.placeholders = 0;
  loser.stale = loser.in_flight;  // what is in flight is delivered, but counts for nothing else
  loser.running = false;
  ++loser.preemptions;
  ++totals_.preemptions;
  preempted_ = true;
  line_.put_back(id, loser.number);
  if (core_) core_->preempted(now, id);
}

// Room for a running turn, preempting as long as there is none. False: it had to go itself.
bool VirtualEngine::grow(Seconds now, TurnId id, Tokens tokens, std::size_t& index) {
  Turn& growing = turn(id);
  const auto grows = [&] { return kv_.grow(growing, tokens); };
  while (!room(now, growing, grows)) {
    const std::size_t place = victim();
    const TurnId loser = running_[place];
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(place));
    if (place < index) --index;
    preempt(now, loser);
    if (loser == id) return false;
  }
  return true;
}

void VirtualEngine::schedule_running(Seconds now) {
  for (std::size_t i = 0; i < running_.size() && budget_ > 0;) {
    const TurnId id = running_[i];
    Turn& served = turn(id);
    const Tokens tokens = std::min(served.tokens + served.placeholders - served.computed, budget_);
    // Ahead: nothing is left to do, or the step in flight gives the last token.
    const bool last_in_flight =
        served.placeholders > 0 && served.tokens + served.placeholders >= served.target;
    if (tokens == 0 || last_in_flight) {
      ++i;
      continue;
    }
    if (served.computed + tokens > served.room && !grow(now, id, served.computed + tokens, i)) {
      return;
    }
    kv_.commit(served, std::min(served.computed + tokens, served.tokens));
    put(id, tokens);
    ++i;
  }
}

// One past the last position that the turn could load; never its last token.
Blocks VirtualEngine::on_host(const Turn& turn, Seconds now) const {
  if (kv_.host().on()) return kv_.hit_on_host(turn, now);
  if (!core_) return 0;
  return std::min(core_->loadable(turn), (turn.tokens - 1) / model_.block_tokens);
}

// What the prefills and loads under way still need to get their whole prompts into memory.
Blocks VirtualEngine::unfinished_prefills() const {
  Blocks blocks = 0;
  const auto count = [&](const Turn& turn) {
    if (turn.computed + 1 >= turn.tokens) return;
    blocks += std::max<Blocks>(kv_.blocks_for(turn.tokens) - kv_.blocks_for(turn.room), 0);
  };
  for (const TurnId id : running_) count(turns_[static_cast<std::size_t>(id)]);
  for (const Load& load : loads_) count(turns_[static_cast<std::size_t>(load.turn)]);
  return blocks;
}

Seconds VirtualEngine::start_load(const Turn& turn, Blocks blocks, Seconds now) {
  return kv_.host().on() ? kv_.load(turn, blocks, now) : core_->load(turn, blocks, now);
}

VirtualEngine::Entry VirtualEngine::enter(Seconds now, TurnId id) {
  Turn& entering = turn(id);
  if (entering.stale > 0 || (core_ && core_->must_wait(entering))) return Entry::kDeferred;
  const Blocks hit = kv_.hit(entering);
  const Blocks loadable = on_host(entering, now) - hit;
  // The whole prompt has to fit, though only a part of it may be computed now. A load cannot be
  // preempted: two that hold what each other needs would stand still, so it leaves enough for those
  // before it.
  const Blocks reserved = loadable > 0 ? unfinished_prefills() : 0;
  const Tokens loaded = kv_.tokens_in(hit + std::max<Blocks>(loadable, 0));
  const auto fits = [&] {
    return kv_.fits(entering, hit, entering.tokens) && kv_.fits(entering, hit, loaded, reserved);
  };
  if (!room(now, entering, fits)) return Entry::kNoRoom;
  const bool first = std::isnan(entering.admitted);
  if (first) entering.admitted = now;
  if (first) entering.cached = kv_.tokens_in(hit);
  totals_.cached_tokens += kv_.tokens_in(hit);
  entering.computed = loaded;
  if (loadable > 0) {
    kv_.start(entering, hit, entering.computed);
    entering.loaded += kv_.tokens_in(loadable);
    totals_.loaded_tokens += kv_.tokens_in(loadable);
    loads_.push_back({id, start_load(entering, loadable, now)});
    entered_.emplace_back(id, entering.computed);
    return Entry::kStarted;
  }
  const Tokens tokens = std::min(entering.tokens - entering.computed, budget_);
  kv_.start(entering, hit, entering.computed + tokens);
  kv_.commit(entering, std::min(entering.computed + tokens, entering.tokens));
  entered_.emplace_back(id, entering.computed);
  entering.running = true;
  running_.push_back(id);
  put(id, tokens);
  return Entry::kStarted;
}

// Turns whose KV has arrived from the host run before anyone else enters. False: one has no room,
// which keeps the others out as well.
bool VirtualEngine::resume_loaded(Seconds now) {
  for (auto load = loads_.begin(); load != loads_.end();) {
    if (load->ready_at > now) {
      ++load;
      continue;
    }
    if (budget_ == 0 || static_cast<Tokens>(running_.size()) >= model_.max_running) return false;
    const TurnId id = load->turn;
    Turn& loaded = turn(id);
    kv_.commit(loaded, loaded.computed);
    const Tokens tokens = std::min(loaded.tokens - loaded.computed, budget_);
    const auto fits = [&] { return kv_.can_grow(loaded, loaded.tokens); };
    if (!room(now, loaded, fits) || !kv_.grow(loaded, loaded.computed + tokens)) return false;
    kv_.commit(loaded, std::min(loaded.computed + tokens, loaded.tokens));
    loaded.running = true;
    running_.push_back(id);
    put(id, tokens);
    load = loads_.erase(load);
  }
  return true;
}

void VirtualEngine::schedule_waiting(Seconds now) {
  if (!resume_loaded(now)) return;
  while (budget_ > 0 && static_cast<Tokens>(running_.size()) < model_.max_running) {
    const TurnId id = line_.first();
    if (id == kNoHandle) return;
    switch (enter(now, id)) {
      case Entry::kStarted:
        line_.pop();
        break;
      case Entry::kDeferred:
        line_.skip();
        break;
      case Entry::kNoRoom:
        return;
    }
  }
}

void VirtualEngine::schedule(Seconds now) {
  if (spare_.empty()) {
    step_ = {};
  } else {
    step_ = std::move(spare_.back());
    spare_.pop_back();
    step_.turns.clear();
    step_.ends_at = kForever;
  }
  step_.planned_at = now;
  budget_ = model_.step_tokens;
  preempted_ = false;
  if (core_) line_.open(core_->begin_step(now, running_, turns_));
  Tokens context = 0;
  for (const TurnId id : running_) context += turn(id).computed;
  schedule_running(now);
  if (!preempted_) schedule_waiting(now);
  const std::vector<TurnId> skipped = line_.end_step();
  if (core_) {
    for (const auto& [id, cached] : entered_) core_->admitted(now, id, turn(id), cached);
    for (const TurnId id : skipped) core_->skipped(id);
  }
  entered_.clear();
  const auto requests = static_cast<Tokens>(step_.turns.size());
  const Tokens tokens = model_.step_tokens - budget_;
  step_.load = {tokens - requests, requests, context};
  if (requests == 0) return;
  ++totals_.steps;
  totals_.prefill_tokens += tokens - requests;
  step_.seconds = model_.step_time(tokens, requests);
  if (model_.cost.per_context > 0 || model_.per_prefill_context > 0) {
    for (const Scheduled& each : step_.turns) {
      step_.seconds += model_.attention_time(each.tokens, turn(each.turn).computed - each.tokens);
    }
  }
}

}  // namespace lamps::sim
