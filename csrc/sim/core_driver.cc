// SPDX-License-Identifier: Apache-2.0
#include "sim/core_driver.h"

#include <algorithm>

#include "lamps/errors.h"
#include "sim/slots.h"

namespace lamps::sim {
namespace {

Engine core_engine(const EngineModel& model) {
  return {.capacity_tokens = model.blocks() * model.block_tokens,
          .block_tokens = model.block_tokens,
          .max_context = model.max_context,
          .step_tokens = model.step_tokens,
          .host_tokens = model.swaps() ? model.host_tokens : 0};
}

// The shim measures the bandwidth when it starts; here it is known.
Options with_bandwidth(Options options, const EngineModel& model) {
  if (!model.swaps()) return options;
  options.cost.swap_bytes_per_s = model.cost.swap_bytes_per_s;
  options.cost.kv_bytes_per_token = model.cost.kv_bytes_per_token;
  return options;
}

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

}  // namespace

CoreDriver::CoreDriver(const EngineModel& engine, const Options& options, KvCache& kv,
                       bool count_decisions)
    : kv_(kv),
      core_(core_engine(engine), with_bandwidth(options, engine)),
      swap_(engine.swaps() ? std::make_unique<SwapSpace>(engine, kv) : nullptr),
      block_tokens_(engine.block_tokens),
      block_bytes_(engine.block_tokens * engine.cost.kv_bytes_per_token),
      step_tokens_(engine.step_tokens),
      max_running_(engine.max_running),
      everything_((engine.blocks() + 1) * engine.block_tokens),
      keeps_(core_.keeps() && engine.prefix_caching),
      youngest_goes_first_(options.policy == PolicyName::kSessionFcfs),
      counting_(count_decisions) {
  core_.record_decisions(counting_);
}

// Stands for PromptClasses::beginnings of tokens that are not simulated: a group's shared tokens
// are alike, all others are not.
std::vector<std::uint64_t> CoreDriver::beginnings(const TurnRequest& request) {
  std::vector<std::uint64_t> out;
  const Tokens end = std::min<Tokens>(request.prompt_tokens, PromptClasses::kLongest);
  for (Tokens length = PromptClasses::kShortest; length <= end; length *= 2) {
    const bool shared = request.group >= 0 && length <= request.shared_tokens;
    const auto who = shared ? static_cast<std::uint64_t>(request.group)
                            : static_cast<std::uint64_t>(request.number);
    out.push_back((who << 32) + (static_cast<std::uint64_t>(length) << 1) + (shared ? 1 : 0));
  }
  return out;
}

SessionHandle CoreDriver::resolve(ClientId client) {
  const auto index = static_cast<std::size_t>(client);
  if (index >= of_client_.size()) of_client_.resize(index + 1, kNoHandle);
  SessionHandle& handle = of_client_[index];
  if (handle != kNoHandle) return handle;
  handle = take_slot(known_, idle_);
  at(handle) = {};
  at(handle).client = client;
  at(handle).number = begun_++;
  return handle;
}

void CoreDriver::client_gone(ClientId client) {
  if (static_cast<std::size_t>(client) >= of_client_.size()) return;
  SessionHandle& handle = of_client_[static_cast<std::size_t>(client)];
  if (handle != kNoHandle) at(handle).client = kNoHandle;
  handle = kNoHandle;
}

void CoreDriver::rewritten(ClientId client, Tokens kept) {
  const auto index = static_cast<std::size_t>(client);
  const bool known = index < of_client_.size() && of_client_[index] != kNoHandle;
  if (!known) return kv_.rewritten(client, kept, nullptr, nullptr);
  const SessionHandle handle = of_client_[index];
  Known& session = at(handle);
  kv_.rewritten(client, kept, session.holds ? &session.kept : nullptr,
                swap_ ? swap_->landing(handle) : nullptr);
  if (swap_) swap_->rewritten(handle, kept / block_tokens_);
}

void CoreDriver::forget(Seconds now, SessionHandle session) {
  let_go(session);
  if (swap_) swap_->forget(session, now);
  const ClientId client = at(session).client;
  if (client != kNoHandle) of_client_[static_cast<std::size_t>(client)] = kNoHandle;
  idle_.push_back(session);
}

bool CoreDriver::stop_holding(Known& known) {
  if (!known.holds) return false;
  known.holds = false;
  --holders_;
  kept_blocks_ -= known.own_blocks;
  return true;
}

bool CoreDriver::let_go(SessionHandle session) {
  Known& known = at(session);
  const bool held = stop_holding(known);
  if (held) kv_.drop(known.kept);
  return held;
}

const std::string& CoreDriver::tool_name(std::int32_t tool) {
  while (tool_names_.size() <= static_cast<std::size_t>(tool)) {
    tool_names_.push_back("tool " + std::to_string(tool_names_.size()));
  }
  return tool_names_[static_cast<std::size_t>(tool)];
}

void CoreDriver::arrived(Seconds now, TurnId id, Turn& turn, const TurnRequest& request) {
  const auto client = static_cast<std::size_t>(request.client);
  const bool is_new = client >= of_client_.size() || of_client_[client] == kNoHandle;
  turn.session = resolve(request.client);
  Known& session = at(turn.session);
  session.group = request.group;
  turn.number = session.number;
  Arrived event{now, {}, request.names_tool ? request.tool : kNoHandle};
  event.arrival.request = id;
  event.arrival.session = turn.session;
  event.arrival.prompt_tokens = request.prompt_tokens;
  if (is_new) event.arrival.prompt_class = core_.predictor().prompt_class(beginnings(request));
  if (keeps_) {
    Blocks own = session.holds ? kv_.unique(session.kept) : 0;
    if (const Turn* landing = swap_ ? swap_->landing(turn.session) : nullptr) {
      own = std::max<Blocks>(landing->hashed - landing->shared_blocks, 0);
    }
    const Blocks here = kv_.referenced_hit(turn);
    event.arrival.shared_tokens = std::max<Tokens>(kv_.tokens_in(here - own), 0);
    const Blocks found = std::min(loadable(turn), request.prompt_tokens / block_tokens_);
    event.arrival.host_tokens = std::max<Tokens>(kv_.tokens_in(found - here), 0);
  }
  event.arrival.hints.output_tokens = request.hint_output;
  event.arrival.hints.call_seconds = request.hint_call;
  event.arrival.hints.final_turn = request.hint_final;
  events_.push_back(event);
}

void CoreDriver::preempted(Seconds now, TurnId id) { events_.push_back(Preempted{now, id}); }
void CoreDriver::skipped(TurnId id) { events_.push_back(Skipped{id}); }
void CoreDriver::step_took(const StepLoad& load, Seconds seconds) {
  events_.push_back(StepTook{load, seconds});
}

void CoreDriver::admitted(Seconds now, TurnId id, const Turn& turn, Tokens cached) {
  events_.push_back(Admitted{now, id, cached});
  let_go(turn.session);  // its blocks are the turn's own now
  if (swap_) swap_->taken_over(turn.session);
}

void CoreDriver::finished(Seconds now, TurnId id, Turn& turn) {
  Blocks held = 0;
  const Tokens output = turn.tokens - turn.prompt;
  at(turn.session).tool = turn.tool;
  if (keeps_ && !turn.final_hint) {
    let_go(turn.session);
    const KeptBlocks kept = kv_.keep(turn, now);
    if (kept.group != kNoChain || kept.chain != kNoChain) {
      hold(turn.session, kept, kept.chain == kNoChain ? 0 : kept.end - turn.shared_blocks);
      held = kv_.unique(kept);
    }
  } else {
    kv_.free(turn, now);
  }
  events_.push_back(Finished{now,
                             {.request = id,
                              .output_tokens = output,
                              .context_tokens = turn.tokens,
                              .held_tokens = kv_.tokens_in(held),
                              .aborted = false},
                             turn.called});
}

void CoreDriver::apply(const Event& event) {
  std::visit(
      Overloaded{
          [this](Arrived each) {
            if (each.tool != kNoHandle) each.arrival.hints.tool = tool_name(each.tool);
            core_.arrive(each.now, each.arrival);
          },
          [this](const Admitted& each) { core_.admitted(each.now, each.turn, each.cached); },
          [this](const Preempted& each) { core_.preempted(each.now, each.turn); },
          [this](Finished each) {
            std::string_view name;
            if (each.called >= 0) name = tool_name(each.called);
            each.finish.end = {each.called != kNotRead, {&name, name.empty() ? 0U : 1U}};
            core_.finished(each.now, each.finish);
          },
          [this](const Pressure& each) { core_.released_under_pressure(each.now, each.session); },
          [this](const Skipped& each) { core_.skipped(each.turn); },
          [this](const StepTook& each) { core_.observe_step(each.load, each.seconds); },
          [this](const CopyDone& each) { tell(each); },
      },
      event);
}

std::span<const TurnId> CoreDriver::begin_step(Seconds now, std::vector<TurnId>& running,
                                               const std::vector<Turn>& turns) {
  if (swap_) finish_copies(now);
  for (const Event& event : events_) apply(event);
  events_.clear();
  context_.clear();
  for (const TurnId id : running) {
    context_.push_back(turns[static_cast<std::size_t>(id)].computed);
  }
  plan_ = core_.begin_step({.now = now,
                            .free_tokens = kv_.tokens_in(kv_.pool().free()),
                            .step_tokens = step_tokens_,
                            .slots = max_running_ - static_cast<Tokens>(running.size()),
                            .running = running,
                            .context = context_});
  if (swap_) drop_copies(now);
  for (const SessionHandle session : plan_.release) {
    swap_ && swap_->on_host(session) ? leave_to_host(session) : (void)let_go(session);
  }
  if (swap_) start_copies(now);
  if (plan_.run_order.size() == running.size() && !youngest_goes_first_) {
    running = plan_.run_order;
  }
  if (counting_) count_decisions();
  for (const SessionHandle session : plan_.forget) forget(now, session);
  return plan_.admit;
}

void CoreDriver::count_decisions() {
  for (const Decision& decision : core_.take_decisions()) {
    const std::int32_t tool = at(decision.session).tool;
    ++decisions_[{decision.handling, decision.reason, tool}];
  }
}

Blocks CoreDriver::kept_blocks() const {
  return kept_blocks_ + (swap_ ? swap_->landing_room() : 0);
}

Blocks CoreDriver::nameless_blocks() const {
  Blocks blocks = swap_ ? swap_->landing_blocks() : 0;
  for (const Known& each : known_) blocks += each.holds ? each.kept.replaced : 0;
  return blocks;
}

void CoreDriver::check_invariants() const {
  core_.check_invariants();
  if (swap_) swap_->check_invariants();
  Blocks own = 0;
  std::int64_t holders = 0;
  for (const Known& each : known_) {
    if (!each.holds) continue;
    own += each.own_blocks;
    ++holders;
  }
  if (own != kept_blocks_ || holders != holders_) {
    throw InvariantViolation("core driver: kept blocks are miscounted");
  }
}

}  // namespace lamps::sim
