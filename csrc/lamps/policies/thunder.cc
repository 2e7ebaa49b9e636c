// SPDX-License-Identifier: Apache-2.0
#include "lamps/policies/thunder.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace lamps {
namespace {

constexpr double kBuffer = 100.0;  // tokens reserved per open session for its decode
constexpr Seconds kCheckInterval = 5.0;
constexpr Seconds kLongestWait = 1800.0;  // then a turn is let in whatever it needs

}  // namespace

ThunderRules::Program& ThunderRules::program(SessionHandle session) {
  return programs_[static_cast<std::size_t>(session)];
}

const ThunderRules::Program& ThunderRules::program(SessionHandle session) const {
  return programs_[static_cast<std::size_t>(session)];
}

ReadyKey ThunderRules::key_of(const Request& request) const {
  const Program& owner = program(request.session);
  if (request.preempted) return FcfsRules::key_of(request);
  if (!owner.open) return {kClosedClass, owner.since, request.sequence};
  return {kRestClass, static_cast<double>(owner.released), request.sequence};
}

double ThunderRules::tokens_of(SessionHandle handle) const {
  const Session& session = scene_.ledger.session(handle);
  if (!program(handle).busy || !scene_.ledger.has_request(session.latest)) {
    return static_cast<double>(session.context_tokens);
  }
  const Request& turn = scene_.ledger.request(session.latest);
  return static_cast<double>(std::max(turn.prompt_tokens, turn.context_tokens));
}

double ThunderRules::room(Seconds now, bool decayed) const {
  double used = 0.0;
  for (const SessionHandle handle : present_) {
    const Program& each = program(handle);
    if (!each.open) continue;
    double counted = tokens_of(handle);
    if (each.marked) counted = 0.0;
    if (decayed && !each.busy) counted *= std::exp2(-std::max(now - each.since, 0.0));
    used += counted + kBuffer;
  }
  return static_cast<double>(scene_.engine.capacity_tokens) - used;
}

void ThunderRules::open(SessionHandle session) {
  Program& each = program(session);
  if (!each.open) --closed_;
  each.open = true;
  each.released = released_++;
}

void ThunderRules::close(SessionHandle session) {
  Program& each = program(session);
  if (each.open) ++closed_;
  each.open = each.marked = false;
}

void ThunderRules::on_arrival(Seconds now, const Request& request) {
  const auto index = static_cast<std::size_t>(request.session);
  if (index >= programs_.size()) programs_.resize(index + 1);
  Program& owner = programs_[index];
  const bool starts = !owner.known;
  if (starts) {
    owner = {.known = true};
    ++closed_;
    present_.push_back(request.session);
  }
  owner.busy = true;
  owner.since = now;
  const bool alone = closed_ == 1;  // nobody else waits to be opened
  const double asked = static_cast<double>(request.prompt_tokens) + kBuffer;
  if (owner.open || (starts && alone && room(now, false) >= asked)) open(request.session);
}

void ThunderRules::on_pause(Seconds now, SessionHandle session) {
  Program& each = program(session);
  each.busy = false;
  each.since = now;
  if (each.marked) close(session);
}

void ThunderRules::on_end(SessionHandle session) {
  if (!program(session).open) --closed_;
  program(session) = {};
  std::erase(present_, session);
}

std::vector<ThunderRules::Counted> ThunderRules::by_size(bool open, bool busy) const {
  std::vector<Counted> found;
  for (const SessionHandle handle : present_) {
    const Program& each = program(handle);
    if (each.open != open || each.busy != busy || each.marked) continue;
    found.push_back({tokens_of(handle), handle});
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Counted& a, const Counted& b) { return a.tokens < b.tokens; });
  return found;
}

std::vector<SessionHandle> ThunderRules::open_what_fits(Seconds now) {
  std::vector<Counted> candidates;
  for (const Counted& each : by_size(false, true)) {
    if (scene_.ledger.session(each.session).turns > 1) candidates.push_back(each);
  }
  for (const Counted& each : by_size(false, true)) {
    if (scene_.ledger.session(each.session).turns <= 1) candidates.push_back(each);
  }
  const std::vector<Counted> calling = by_size(false, false);
  candidates.insert(candidates.end(), calling.begin(), calling.end());

  const double free = room(now, true);
  double taken = 0.0;
  std::vector<Counted> going;
  for (const Counted& each : candidates) {
    const bool waited_enough =
        program(each.session).busy && now - program(each.session).since >= kLongestWait;
    if (!waited_enough && taken + each.tokens + kBuffer > free) continue;
    taken += each.tokens + kBuffer;
    going.push_back(each);
  }
  std::stable_sort(going.begin(), going.end(),
                   [](const Counted& a, const Counted& b) { return a.tokens > b.tokens; });
  std::vector<SessionHandle> opened;
  for (const Counted& each : going) {
    open(each.session);
    opened.push_back(each.session);
  }
  return opened;
}

void ThunderRules::close_until_it_fits(Seconds now) {
  double missing = -room(now, false);
  for (const Counted& each : by_size(true, false)) {
    if (missing <= 0.0) return;
    close(each.session);
    missing -= each.tokens + kBuffer;
  }
  for (const Counted& each : by_size(true, true)) {
    if (missing <= 0.0) return;
    program(each.session).marked = true;
    missing -= each.tokens;
  }
}

std::vector<SessionHandle> ThunderRules::on_step(Seconds now,
                                                 std::span<const RequestHandle> /*running*/) {
  if (now < next_check_) return {};
  next_check_ = now + kCheckInterval;
  const std::vector<SessionHandle> opened = open_what_fits(now);
  close_until_it_fits(now);
  return opened;
}

}  // namespace lamps
