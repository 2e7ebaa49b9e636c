// SPDX-License-Identifier: Apache-2.0
// `thunder`: a capacity gate over sessions in front of an engine that is left as it is
// (ThunderAgent, arXiv 2602.13692, its router with decay). The context of all open sessions plus
// 100 tokens each must fit the KV pool. Every 5 s sessions are opened while they fit, where a
// session whose call runs counts less the longer it lasts, 2^-t; then, while the open ones do not
// fit without that discount, the smallest session whose call runs is closed, and when there is none
// the smallest busy one is marked, to be closed when its turn ends. Turns of closed sessions wait:
// opened first are sessions that have begun and whose turn waits, then new ones, then those whose
// call still runs, each from the smallest; among those opened at once the largest turn goes first.
// A new session comes in at once when nobody waits to be opened and it fits. After 1,800 s a turn
// is let in whatever it needs. Nothing is kept beyond what the prefix cache keeps.
#pragma once

#include <vector>

#include "lamps/policies/fcfs.h"

namespace lamps {

class ThunderRules : public FcfsRules {
 public:
  using FcfsRules::FcfsRules;

  [[nodiscard]] ReadyKey key_of(const Request& request) const override;
  void on_arrival(Seconds now, const Request& request) override;
  void on_pause(Seconds now, SessionHandle session) override;
  void on_end(SessionHandle session) override;
  [[nodiscard]] std::vector<SessionHandle> on_step(Seconds now,
                                                   std::span<const RequestHandle> running) override;

 private:
  struct Program {
    bool known = false;
    bool open = false;
    bool marked = false;         // to be closed when its turn ends
    bool busy = false;           // a turn waits or runs
    Seconds since = 0;           // busy: when its turn arrived; else: when its call began
    std::uint64_t released = 0;  // order in which turns were let through the gate
  };
  struct Counted {
    double tokens;
    SessionHandle session;
  };
  [[nodiscard]] double tokens_of(SessionHandle session) const;
  [[nodiscard]] double room(Seconds now, bool decayed) const;
  [[nodiscard]] std::vector<Counted> by_size(bool open, bool busy) const;
  [[nodiscard]] Program& program(SessionHandle session);
  [[nodiscard]] const Program& program(SessionHandle session) const;
  void open(SessionHandle session);
  void close(SessionHandle session);
  [[nodiscard]] std::vector<SessionHandle> open_what_fits(Seconds now);
  void close_until_it_fits(Seconds now);

  std::vector<Program> programs_;       // by session
  std::vector<SessionHandle> present_;  // known programs, in order of their arrival
  std::size_t closed_ = 0;
  std::uint64_t released_ = 0;
  Seconds next_check_ = 0.0;
};

}  // namespace lamps
