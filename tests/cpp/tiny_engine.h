// SPDX-License-Identifier: Apache-2.0
// The smallest engine that drives a PolicyCore as vLLM would: a pool of blocks, continuous
// batching, prefill in one step, one token per running request and step, preemption when the pool
// is full.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "lamps/policy.h"

namespace lamps::testing {

struct Turn {
  SessionHandle session = kNoHandle;
  Tokens prompt = 0;
  Tokens output = 1;
  TurnHints hints;
};

class TinyEngine {
 public:
  static constexpr Tokens kBlock = 16;
  static constexpr Seconds kStep = 0.02;

  static constexpr Seconds kCopyTime = 0.05;

  TinyEngine(Tokens capacity, std::int64_t slots, const Options& options, Tokens host_tokens = 0)
      : capacity_(capacity),
        slots_(slots),
        host_capacity_(host_tokens),
        core(Engine{.capacity_tokens = capacity,
                    .block_tokens = kBlock,
                    .max_context = capacity,
                    .step_tokens = 2048,
                    .host_tokens = host_tokens},
             options) {}

  // A turn joins the queue; returns its request.
  RequestHandle arrive(const Turn& turn) {
    const RequestHandle request = next_request_++;
    turns_[request] = turn;
    core.arrive(now, {.request = request,
                      .session = turn.session,
                      .prompt_tokens = turn.prompt,
                      .shared_tokens = 0,
                      .hints = turn.hints});
    return request;
  }

  void abort(RequestHandle request) {
    std::erase_if(running_, [=](const Running& each) { return each.request == request; });
    core.finished(now, {.request = request,
                        .output_tokens = 0,
                        .context_tokens = 0,
                        .held_tokens = 0,
                        .aborted = true});
    turns_.erase(request);
  }

  void step() {
    now += kStep;
    finish_copies();
    const StepPlan plan = begin();
    if (::testing::Test::HasFatalFailure()) return;
    for (const SessionHandle session : plan.release) let_go(session);
    start_copies(plan);
    if (::testing::Test::HasFatalFailure()) return;
    for (const SessionHandle session : plan.forget) {
      ASSERT_FALSE(held.contains(session)) << "forgotten while it keeps KV: " << session;
      ASSERT_FALSE(host.contains(session) || copying_.contains(session))
          << "forgotten with KV on the host: " << session;
      forgotten.push_back(session);
    }
    if (!plan.run_order.empty()) reorder(plan.run_order);
    admit(plan.admit);
    decode();
    core.observe_step({prefilled_, static_cast<Tokens>(running_.size()), context()}, kStep);
    core.check_invariants();
  }

  [[nodiscard]] Tokens free_tokens() const {
    Tokens used = 0;
    for (const Running& each : running_) used += blocks(each.context);
    for (const auto& [session, tokens] : held) used += tokens;
    for (const auto& [session, copy] : leaving_) used += copy.tokens;
    for (const auto& [session, copy] : loading_) used += copy.tokens;
    return capacity_ - used;
  }
  [[nodiscard]] bool is_running(RequestHandle request) const {
    return std::any_of(running_.begin(), running_.end(),
                       [=](const Running& each) { return each.request == request; });
  }
  [[nodiscard]] std::size_t running() const { return running_.size(); }
  [[nodiscard]] const std::map<RequestHandle, Turn>& unfinished() const { return turns_; }

  Seconds now = 0.0;
  std::map<SessionHandle, Tokens> held;  // KV kept for paused sessions
  std::map<SessionHandle, Tokens> host;  // KV on the host, until it is dropped
  std::vector<Turn> finished;            // in this step's order; the test takes them away
  std::vector<SessionHandle> forgotten;  // the same
  bool keeps = true;                     // whether KV is kept at the end of a turn

 private:
  struct Running {
    RequestHandle request;
    Tokens context;
    Tokens produced;
  };
  struct CopyJob {
    Tokens tokens;
    Seconds done;
    bool dropped = false;
  };
  static Tokens blocks(Tokens tokens) { return (tokens + kBlock - 1) / kBlock * kBlock; }

  [[nodiscard]] Tokens context() const {
    Tokens sum = 0;
    for (const Running& each : running_) sum += each.context;
    return sum;
  }

  void let_go(SessionHandle session) {
    ASSERT_EQ(held.erase(session), 1U) << "told to let go of what is not kept: " << session;
  }

  void start_copies(const StepPlan& plan) {
    for (const SessionHandle session : plan.drop_host) {
      host.erase(session);
      loading_.erase(session);
      copying_.erase(session);
      if (leaving_.contains(session)) leaving_[session].dropped = true;
    }
    for (const SessionHandle session : plan.swap_out) {
      ASSERT_TRUE(held.contains(session)) << "told to swap what is not kept: " << session;
      const bool under_way = copying_.contains(session);
      leaving_[session] = under_way ? copying_[session] : CopyJob{held[session], now + kCopyTime};
      copying_.erase(session);
      held.erase(session);
    }
    for (const SessionHandle session : plan.copy_ahead) {
      ASSERT_TRUE(held.contains(session)) << "told to copy what is not kept: " << session;
      ASSERT_TRUE(copying_.empty()) << "told to copy two sessions ahead of need";
      copying_[session] = {held[session], now + kCopyTime};
    }
    for (const SessionHandle session : plan.prefetch) {
      ASSERT_TRUE(host.contains(session)) << "told to load what is not there: " << session;
      ASSERT_LE(host[session], free_tokens()) << "told to load into blocks that are not free";
      loading_[session] = {host[session], now + kCopyTime};
    }
    Tokens room = 0;
    for (const auto& [session, tokens] : host) room += tokens;
    for (const auto& [session, copy] : leaving_) room += copy.dropped ? 0 : copy.tokens;
    for (const auto& [session, copy] : copying_) room += copy.tokens;
    ASSERT_LE(room, host_capacity_) << "host memory is full";
  }

  void finish_copies() {
    for (auto copy = leaving_.begin(); copy != leaving_.end();) {
      const auto [session, job] = *copy;
      if (job.done > now) {
        ++copy;
        continue;
      }
      copy = leaving_.erase(copy);
      if (job.dropped) continue;
      host[session] = job.tokens;
      core.swapped_out(now, session);
    }
    for (const auto& [session, job] : std::exchange(copying_, {})) {
      if (job.done > now) {
        copying_[session] = job;
        continue;
      }
      host[session] = job.tokens;
      core.swapped_out(now, session);
    }
    for (auto copy = loading_.begin(); copy != loading_.end();) {
      const auto [session, job] = *copy;
      if (job.done > now) {
        ++copy;
        continue;
      }
      copy = loading_.erase(copy);
      held[session] = job.tokens;
      core.loaded(now, session);
    }
  }

  StepPlan begin() {
    std::vector<RequestHandle> requests;
    std::vector<Tokens> contexts;
    for (const Running& each : running_) {
      requests.push_back(each.request);
      contexts.push_back(each.context);
    }
    const auto free_slots = slots_ - static_cast<std::int64_t>(running_.size());
    StepPlan plan = core.begin_step({.now = now,
                                     .free_tokens = free_tokens(),
                                     .step_tokens = 2048,
                                     .slots = free_slots,
                                     .running = requests,
                                     .context = contexts});
    check_plan(plan, free_slots, requests);
    return plan;
  }

  void check_plan(const StepPlan& plan, std::int64_t free_slots,
                  std::vector<RequestHandle> requests) {
    ASSERT_LE(static_cast<std::int64_t>(plan.admit.size()), std::max<std::int64_t>(free_slots, 0));
    ASSERT_EQ(std::set(plan.admit.begin(), plan.admit.end()).size(), plan.admit.size());
    for (const RequestHandle request : plan.admit) {
      ASSERT_TRUE(turns_.contains(request) && !is_running(request)) << request;
    }
    ASSERT_EQ(std::set(plan.release.begin(), plan.release.end()).size(), plan.release.size());
    if (plan.run_order.empty()) return;
    std::vector<RequestHandle> order = plan.run_order;
    std::sort(order.begin(), order.end());
    std::sort(requests.begin(), requests.end());
    ASSERT_EQ(order, requests);
  }

  void reorder(const std::vector<RequestHandle>& order) {
    std::vector<Running> sorted;
    for (const RequestHandle request : order) {
      sorted.push_back(*std::find_if(running_.begin(), running_.end(),
                                     [=](const Running& each) { return each.request == request; }));
    }
    running_ = std::move(sorted);
  }

  void admit(const std::vector<RequestHandle>& admitted) {
    prefilled_ = 0;
    for (const RequestHandle request : admitted) {
      const Turn& turn = turns_[request];
      if (loading_.contains(turn.session)) {
        core.skipped(request);  // it waits for its KV
        continue;
      }
      if (leaving_.contains(turn.session) && !leaving_[turn.session].dropped) {
        held[turn.session] = leaving_[turn.session].tokens;  // the blocks are still there
        leaving_.erase(turn.session);
      }
      const Tokens own = held.contains(turn.session) ? held[turn.session] : 0;
      const Tokens loaded = host.contains(turn.session) ? host[turn.session] : 0;
      const Tokens cached = std::min(std::max(own, loaded), turn.prompt);
      while (blocks(turn.prompt) - own > free_tokens() && let_go_for(turn.session)) {
      }
      if (blocks(turn.prompt) - own > free_tokens()) return;  // the rest stays in the queue
      held.erase(turn.session);
      core.admitted(now, request, cached);
      running_.push_back({request, turn.prompt, 0});
      prefilled_ += turn.prompt - cached;
    }
  }

  void decode() {
    for (std::size_t i = 0; i < running_.size(); ++i) {
      while (i < running_.size() && !has_room(running_[i])) make_room();
      if (i >= running_.size()) return;  // preempted itself
      ++running_[i].context;
      ++running_[i].produced;
    }
    const auto done = std::stable_partition(
        running_.begin(), running_.end(),
        [this](const Running& each) { return each.produced < turns_[each.request].output; });
    const std::vector<Running> ended(done, running_.end());
    running_.erase(done, running_.end());
    for (const Running& each : ended) finish(each);
  }

  [[nodiscard]] bool has_room(const Running& each) const {
    return blocks(each.context + 1) - blocks(each.context) <= free_tokens();
  }

  // The KV kept for the first session that has to give way, but never that of `own`.
  bool let_go_for(SessionHandle own) {
    for (const SessionHandle session : core.release_order(now, capacity_)) {
      if (session == own) continue;
      let_go(session);
      core.released_under_pressure(now, session);
      return true;
    }
    return false;
  }

  void make_room() {
    if (let_go_for(kNoHandle)) return;
    const Running victim = running_.back();
    running_.pop_back();
    turns_[victim.request].prompt = victim.context;
    turns_[victim.request].output -= victim.produced;
    core.preempted(now, victim.request);
    ++preemptions;
  }

  void finish(const Running& each) {
    const Turn turn = turns_[each.request];
    turns_.erase(each.request);
    const Tokens kept = keeps ? blocks(each.context) : 0;
    if (kept > 0) {
      ASSERT_FALSE(held.contains(turn.session))
          << "a session of this engine has one turn at a time";
      held[turn.session] = kept;
    }
    core.finished(now, {.request = each.request,
                        .output_tokens = each.produced,
                        .context_tokens = each.context,
                        .held_tokens = kept,
                        .aborted = false});
    finished.push_back(turn);
    finished.back().prompt = each.context;
  }

  Tokens capacity_;
  std::int64_t slots_;
  Tokens host_capacity_;
  std::map<SessionHandle, CopyJob> leaving_, copying_, loading_;
  std::map<RequestHandle, Turn> turns_;  // waiting and running
  std::vector<Running> running_;
  RequestHandle next_request_ = 0;
  Tokens prefilled_ = 0;

 public:
  int preemptions = 0;
  PolicyCore core;
};

}  // namespace lamps::testing
