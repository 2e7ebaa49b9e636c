// SPDX-License-Identifier: Apache-2.0
#include "lamps/ledger.h"

#include <string>
#include <utility>

#include "lamps/errors.h"

namespace lamps {
namespace {

std::size_t index_of(std::int32_t handle) { return static_cast<std::size_t>(handle); }

[[noreturn]] void unknown(const char* what, std::int32_t handle) {
  throw UnknownHandle(std::string(what) + " " + std::to_string(handle) +
                      " is unknown or in another state");
}

void expect(bool holds, const char* what) {
  if (!holds) throw InvariantViolation(std::string("ledger: ") + what);
}

}  // namespace

bool Ledger::has_request(RequestHandle handle) const {
  return handle >= 0 && index_of(handle) < requests_.size() &&
         requests_[index_of(handle)].state != RequestState::kAbsent;
}

bool Ledger::has_session(SessionHandle handle) const {
  return handle >= 0 && index_of(handle) < session_table_.size() &&
         session_table_[index_of(handle)].state != SessionState::kAbsent;
}

const Request& Ledger::request(RequestHandle handle) const {
  if (!has_request(handle)) unknown("request", handle);
  return requests_[index_of(handle)];
}

Request& Ledger::request(RequestHandle handle) {
  return const_cast<Request&>(std::as_const(*this).request(handle));
}

const Session& Ledger::session(SessionHandle handle) const {
  if (!has_session(handle)) unknown("session", handle);
  return session_table_[index_of(handle)];
}

Session& Ledger::session(SessionHandle handle) {
  return const_cast<Session&>(std::as_const(*this).session(handle));
}

// Adds (sign = +1) or takes back (-1) what a request contributes to the sums.
void Ledger::account(const Request& request, int sign) {
  const auto signed_tokens = [sign](Tokens tokens) { return sign > 0 ? tokens : -tokens; };
  if (request.state == RequestState::kWaiting) {
    waiting_need_ += signed_tokens(request.need());
    sign > 0 ? ++waiting_ : --waiting_;
  } else if (request.state == RequestState::kRunning) {
    running_growth_ += signed_tokens(request.growth());
    running_context_ += signed_tokens(request.context_tokens);
    sign > 0 ? ++running_ : --running_;
  }
}

Session& Ledger::enter(SessionHandle handle, Seconds now) {
  if (handle < 0) unknown("session", handle);
  if (index_of(handle) >= session_table_.size()) {
    session_table_.resize(index_of(handle) + 1);
    holder_position_.resize(index_of(handle) + 1, -1);
  }
  Session& session = session_table_[index_of(handle)];
  if (session.state == SessionState::kAbsent) {
    session = Session{};
    session.arrival = now;
    session.number = next_session_++;
    ++sessions_count_;
  }
  idle_host_tokens_ -= session.idle_host_tokens();
  session.state = SessionState::kActive;
  return session;
}

void Ledger::pause(SessionHandle handle, Seconds now) {
  Session& entry = session(handle);
  idle_host_tokens_ -= entry.idle_host_tokens();
  entry.state = SessionState::kPaused;
  entry.paused_at = now;
  idle_host_tokens_ += entry.idle_host_tokens();
}

Request& Ledger::add_waiting(RequestHandle handle, SessionHandle session_handle) {
  if (handle < 0 || has_request(handle)) unknown("request", handle);
  if (index_of(handle) >= requests_.size()) requests_.resize(index_of(handle) + 1);
  Session& owner = session(session_handle);
  ++owner.live;
  Request& request = requests_[index_of(handle)];
  request = Request{};
  request.state = RequestState::kWaiting;
  request.session = session_handle;
  account(request, +1);
  return request;
}

void Ledger::set_footprint(RequestHandle handle, Tokens peak, Tokens shared) {
  Request& entry = request(handle);
  account(entry, -1);
  entry.peak_tokens = peak;
  entry.shared_tokens = shared;
  account(entry, +1);
}

void Ledger::start(RequestHandle handle) {
  Request& entry = request(handle);
  if (entry.state != RequestState::kWaiting) unknown("waiting request", handle);
  account(entry, -1);
  entry.state = RequestState::kRunning;
  entry.context_tokens = entry.shared_tokens;
  account(entry, +1);
}

void Ledger::stop(RequestHandle handle) {
  Request& entry = request(handle);
  if (entry.state != RequestState::kRunning) unknown("running request", handle);
  account(entry, -1);
  entry.state = RequestState::kWaiting;
  entry.prompt_tokens =
      entry.context_tokens > entry.prompt_tokens ? entry.context_tokens : entry.prompt_tokens;
  entry.context_tokens = 0;
  entry.shared_tokens = 0;
  entry.preempted = true;
  account(entry, +1);
}

void Ledger::set_context(RequestHandle handle, Tokens context) {
  Request& entry = request(handle);
  if (entry.state != RequestState::kRunning) unknown("running request", handle);
  running_growth_ -= entry.growth();
  running_context_ += context - entry.context_tokens;
  entry.context_tokens = context;
  running_growth_ += entry.growth();
}

void Ledger::remove(RequestHandle handle) {
  Request& entry = request(handle);
  account(entry, -1);
  --session(entry.session).live;
  entry.state = RequestState::kAbsent;
}

void Ledger::hold(SessionHandle handle, Tokens tokens) {
  Session& entry = session(handle);
  release(handle);
  if (tokens <= 0) return;
  entry.held_tokens = tokens;
  held_tokens_ += tokens;
  holder_position_[index_of(handle)] = static_cast<std::int32_t>(holders_.size());
  holders_.push_back(handle);
}

void Ledger::release(SessionHandle handle) {
  Session& entry = session(handle);
  std::int32_t& position = holder_position_[index_of(handle)];
  if (position < 0) return;
  if (entry.copy == Copy::kCopying) unknown("session that can let its KV go", handle);
  held_tokens_ -= entry.held_tokens;
  entry.held_tokens = 0;
  if (entry.copy == Copy::kBoth) entry.copy = Copy::kHost;
  const SessionHandle moved = holders_.back();  // swap with the last: order does not matter
  holders_[index_of(position)] = moved;
  holder_position_[index_of(moved)] = position;
  holders_.pop_back();
  position = -1;
}

Session& Ledger::session_in(SessionHandle handle, Copy copy) {
  Session& entry = session(handle);
  if (entry.copy != copy) unknown("session with KV on the host", handle);
  return entry;
}

void Ledger::copy_ahead(SessionHandle handle) {
  Session& entry = session_in(handle, Copy::kNone);
  if (entry.held_tokens <= 0) unknown("session that keeps KV", handle);
  entry.copy = Copy::kCopying;
  entry.host_tokens = entry.held_tokens;
  host_tokens_ += entry.host_tokens;
  copying_tokens_ += entry.host_tokens;
}

void Ledger::swap_out(SessionHandle handle) {
  if (session(handle).copy != Copy::kCopying) copy_ahead(handle);
  Session& entry = session(handle);
  entry.copy = Copy::kOut;
  copying_tokens_ -= entry.host_tokens;
  leaving_tokens_ += entry.host_tokens;
  release(handle);
}

void Ledger::swapped_out(SessionHandle handle) {
  Session& entry = session(handle);
  if (entry.copy == Copy::kCopying) {
    entry.copy = Copy::kBoth;
    copying_tokens_ -= entry.host_tokens;
  } else {
    session_in(handle, Copy::kOut).copy = Copy::kHost;
    leaving_tokens_ -= entry.host_tokens;
  }
  idle_host_tokens_ += entry.idle_host_tokens();
}

void Ledger::load(SessionHandle handle) {
  Session& entry = session_in(handle, Copy::kHost);
  idle_host_tokens_ -= entry.idle_host_tokens();
  entry.copy = Copy::kIn;
}

void Ledger::loaded(SessionHandle handle) {
  Session& entry = session_in(handle, Copy::kIn);
  hold(handle, entry.host_tokens);
  entry.copy = Copy::kBoth;
  idle_host_tokens_ += entry.idle_host_tokens();
}

void Ledger::keep_after_all(SessionHandle handle) {
  const Tokens tokens = session_in(handle, Copy::kOut).host_tokens;
  drop_host(handle);
  hold(handle, tokens);
}

void Ledger::drop_host(SessionHandle handle) {
  Session& entry = session(handle);
  if (entry.copy == Copy::kOut) leaving_tokens_ -= entry.host_tokens;
  if (entry.copy == Copy::kCopying) copying_tokens_ -= entry.host_tokens;
  host_tokens_ -= entry.host_tokens;
  idle_host_tokens_ -= entry.idle_host_tokens();
  entry.host_tokens = 0;
  entry.copy = Copy::kNone;
}

void Ledger::erase(SessionHandle handle) {
  const Session& entry = session(handle);
  if (entry.live != 0 || entry.held_tokens != 0 || entry.host_tokens != 0) {
    unknown("idle session", handle);
  }
  session_table_[index_of(handle)].state = SessionState::kAbsent;
  --sessions_count_;
}

void Ledger::check_invariants() const {
  Tokens need = 0, growth = 0, context = 0, held = 0, host = 0, leaving = 0, copying = 0, idle = 0;
  std::size_t waiting = 0, running = 0, sessions = 0, holders = 0;
  std::vector<int> live(session_table_.size(), 0);
  for (const Request& entry : requests_) {
    if (entry.state == RequestState::kAbsent) continue;
    expect(has_session(entry.session), "a request belongs to no session");
    ++live[index_of(entry.session)];
    if (entry.state == RequestState::kWaiting) {
      ++waiting;
      need += entry.need();
    } else {
      ++running;
      growth += entry.growth();
      context += entry.context_tokens;
    }
  }
  for (std::size_t i = 0; i < session_table_.size(); ++i) {
    const Session& entry = session_table_[i];
    const bool holds = holder_position_[i] >= 0;
    expect(entry.state != SessionState::kAbsent || !holds, "an absent session holds KV");
    if (entry.state == SessionState::kAbsent) continue;
    ++sessions;
    expect(entry.live == live[i], "live requests of a session are miscounted");
    expect(holds == (entry.held_tokens > 0), "holder list and held tokens disagree");
    expect((entry.copy == Copy::kNone) == (entry.host_tokens == 0), "host room without a copy");
    const bool kept_too = entry.copy == Copy::kCopying || entry.copy == Copy::kBoth;
    expect(entry.copy == Copy::kNone || holds == kept_too, "KV counts twice, or a copy of nothing");
    host += entry.host_tokens;
    idle += entry.idle_host_tokens();
    if (entry.copy == Copy::kOut) leaving += entry.host_tokens;
    if (entry.copy == Copy::kCopying) copying += entry.host_tokens;
    if (!holds) continue;
    ++holders;
    held += entry.held_tokens;
    expect(holders_[index_of(holder_position_[i])] == static_cast<SessionHandle>(i),
           "holder position is wrong");
  }
  expect(holders == holders_.size(), "holder list has strangers");
  expect(need == waiting_need_ && growth == running_growth_ && context == running_context_ &&
             held == held_tokens_ && host == host_tokens_ && leaving == leaving_tokens_ &&
             copying == copying_tokens_ && idle == idle_host_tokens_,
         "token sums are off");
  expect(waiting == waiting_ && running == running_ && sessions == sessions_count_,
         "counts are off");
}

}  // namespace lamps
