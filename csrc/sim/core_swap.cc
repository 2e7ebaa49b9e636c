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

void CoreDriver::finish_copies(Seconds now) {
  for (const SwapSpace::Done& copy : swap_->poll(now)) {
    if (copy.out) {
      if (!copy.kept) let_go(copy.session);
    } else {
      const KeptBlocks kept = swap_->take_loaded(copy.session);
      hold(copy.session, kept, copy.blocks);
    }
    events_.push_back(CopyDone{now, copy});
  }
}

Blocks CoreDriver::host_blocks(SessionHandle session) const {
  return core_.ledger().session(session).host_tokens / block_tokens_;
}

void CoreDriver::start_copies(Seconds now) {
  for (const SessionHandle session : plan_.drop_host) {
    if (swap_->drop(session, now)) let_go(session);
  }
  for (const SessionHandle session : plan_.swap_out) {
    swap_->copy_out(now, session, at(session).kept, host_blocks(session));
  }
  for (const SessionHandle session : plan_.copy_ahead) {
    swap_->copy_ahead(now, session, at(session).kept, host_blocks(session));
  }
  for (const SessionHandle session : plan_.prefetch) {
    const Known& known = at(session);
    TurnRequest request;
    request.client = known.client;
    request.group = known.group;
    swap_->copy_in(now, session, known.client == kNoHandle ? nullptr : &request);
  }
}

bool CoreDriver::must_wait(const Turn& turn) const { return swap_ && swap_->loading(turn.session); }

Blocks CoreDriver::loadable(const Turn& turn) const {
  return swap_ ? swap_->loadable(turn.session) : 0;
}

Seconds CoreDriver::load(Blocks blocks, Seconds now) { return swap_->load(blocks, now); }

}  // namespace lamps::sim
