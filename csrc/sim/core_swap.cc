// SPDX-License-Identifier: Apache-2.0
// What the driver does where the core swaps.
#include "sim/core_driver.h"

namespace lamps::sim {

void CoreDriver::hold(SessionHandle session, const KeptBlocks& kept, Blocks own) {
  Known& known = at(session);
  known.kept = kept;
  known.own_blocks = own;
  known.holds = true;
  kept_blocks_ += own;
  ++holders_;
}

void CoreDriver::leave_to_host(SessionHandle session) {
  Known& known = at(session);
  if (stop_holding(known)) kv_.drop_first(known.kept);
}

void CoreDriver::finish_copies(Seconds now) {
  for (const SwapSpace::Done& copy : swap_->poll(now)) {
    if (copy.what == SwapSpace::What::kOut) leave_to_host(copy.session);
    if (copy.what == SwapSpace::What::kIn) {
      const KeptBlocks kept = swap_->take_loaded(copy.session);
      hold(copy.session, kept, copy.blocks);
    }
    events_.push_back(CopyDone{now, copy});
  }
}

void CoreDriver::tell(const CopyDone& event) {
  const SwapSpace::Done& copy = event.copy;
  core_.observe_copy(copy.blocks * block_bytes_, copy.seconds);
  switch (copy.what) {
    case SwapSpace::What::kOut:
    case SwapSpace::What::kAhead:
      return core_.swapped_out(event.now, copy.session);
    case SwapSpace::What::kIn:
      return core_.loaded(event.now, copy.session);
    case SwapSpace::What::kUnused:
      return;
    case SwapSpace::What::kLost:
      return core_.host_lost(copy.session);
  }
}

Blocks CoreDriver::host_blocks(SessionHandle session) const {
  return core_.ledger().session(session).host_tokens / block_tokens_;
}

void CoreDriver::drop_copies(Seconds now) {
  for (const SessionHandle session : plan_.drop_host) {
    if (swap_->drop(session, now)) let_go(session);
  }
}

void CoreDriver::start_copies(Seconds now) {
  for (const SessionHandle session : plan_.swap_out) {
    if (swap_->copy_out(now, session, at(session).kept, host_blocks(session))) continue;
    swap_->on_host(session) ? leave_to_host(session) : (void)let_go(session);
  }
  for (const SessionHandle session : plan_.prefetch) {
    const Known& known = at(session);
    TurnRequest request;
    request.client = known.client;
    request.group = known.group;
    swap_->copy_in(now, session, known.client == kNoHandle ? nullptr : &request);
  }
  for (const SessionHandle session : plan_.copy_ahead) {
    swap_->copy_ahead(now, session, at(session).kept, host_blocks(session));
  }
}

bool CoreDriver::must_wait(const Turn& turn) const { return swap_ && swap_->loading(turn.session); }

Blocks CoreDriver::loadable(const Turn& turn) const {
  return swap_ ? swap_->loadable(turn.session) : 0;
}

Seconds CoreDriver::load(const Turn& turn, Blocks blocks, Seconds now) {
  return swap_->load(turn.session, blocks, now);
}

}  // namespace lamps::sim
