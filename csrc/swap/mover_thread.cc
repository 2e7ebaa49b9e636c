// SPDX-License-Identifier: Apache-2.0
// What the mover's thread does: takes requests, watches slices in flight, starts the next ones.
#include <algorithm>
#include <chrono>
#include <utility>

#include "swap/mover.h"

namespace lamps::swap {
namespace {

// How often copies in flight are looked at: a small share of what a slice takes.
constexpr std::chrono::microseconds kWatch(20);
// Checksums per turn: about as long as a slice of copying.
constexpr Bytes kCheckBytes = 4 << 20;

std::size_t index_of(Direction direction) { return static_cast<std::size_t>(direction); }

}  // namespace

void Mover::run() {
  bool progress = true;
  while (take_requests(progress)) {
    progress = false;
    for (std::deque<InFlight>& flights : flights_) progress |= watch_flights(flights);
    const bool loading = serve(Direction::kLoad);
    // A backend that copies inside start() has one pair of hands: loads first, and after each
    // slice a look for new ones.
    const bool storing = !(loading && backend_->synchronous()) && serve(Direction::kStore);
    progress |= loading || storing;
    for (Transfers& transfers : active_) sweep(transfers);
  }
}

// Moves requests over from the callers; waits where there is nothing to do (`progress`: there was
// in the last turn). False when stopped and nothing is left.
bool Mover::take_requests(bool progress) {
  std::unique_lock lock(mutex_);
  const auto requested = [this] { return stop_ || !inbox_.empty() || !to_cancel_.empty(); };
  if (active_[0].empty() && active_[1].empty()) {
    while (!requested()) {
      asleep_ = true;
      wake_.wait(lock);
    }
  } else if (!progress) {
    wake_.wait_for(lock, kWatch, requested);
  }
  for (std::unique_ptr<Transfer>& transfer : inbox_) {
    active_[index_of(transfer->order().direction)].push_back(std::move(transfer));
  }
  inbox_.clear();
  for (Transfers& transfers : active_) {
    for (const std::unique_ptr<Transfer>& transfer : transfers) {
      const JobId job = transfer->order().job;
      if (stop_ || std::find(to_cancel_.begin(), to_cancel_.end(), job) != to_cancel_.end()) {
        transfer->end_as(Outcome::kCancelled);
      }
    }
  }
  to_cancel_.clear();
  return !(stop_ && active_[0].empty() && active_[1].empty());
}

bool Mover::watch_flights(std::deque<InFlight>& flights) {
  bool progress = false;
  for (auto it = flights.begin(); it != flights.end();) {
    const SliceState state = backend_->state(it->ticket);
    Transfer& transfer = *it->transfer;
    if (state != SliceState::kRunning && !it->source_free) {
      it->source_free = true;
      --transfer.reading;
      progress = true;
    }
    if (state == SliceState::kFailed) transfer.end_as(Outcome::kCopyFailed);
    if (state == SliceState::kDone || state == SliceState::kFailed) {
      --transfer.in_flight;
      spare_.push_back(std::move(it->memory));
      it = flights.erase(it);
      progress = true;
    } else {
      ++it;
    }
  }
  return progress;
}

bool Mover::serve(Direction direction) {
  Transfer* first = nullptr;
  for (const std::unique_ptr<Transfer>& transfer : active_[index_of(direction)]) {
    if (can_advance(*transfer) && (first == nullptr || transfer->before(*first))) {
      first = transfer.get();
    }
  }
  if (first == nullptr) return false;
  advance(*first);
  return true;
}

// What the CPU reads of a load is complete beforehand on the host, or afterwards on the device.
bool Mover::check_comes_first(const Transfer& transfer) const {
  return transfer.order().direction == Direction::kLoad && !backend_->device_readable();
}

bool Mover::can_advance(const Transfer& transfer) const {
  if (transfer.outcome() != Outcome::kDone) return false;
  if (!transfer.planned()) return true;
  if (!transfer.checked && check_comes_first(transfer)) return true;
  if (!transfer.all_handed_out()) {
    return flights_[index_of(transfer.order().direction)].size() < kSlicesInFlight;
  }
  return !transfer.checked && transfer.in_flight == 0;
}

void Mover::advance(Transfer& transfer) {
  if (!transfer.planned()) {
    transfer.started = clock_();
    transfer.checked = rows_.checksums == nullptr;
    transfer.plan(planner_, rows_, calibration_, *backend_);
  } else if (!transfer.checked && (transfer.all_handed_out() || check_comes_first(transfer))) {
    transfer.checked =
        !transfer.check_some(planner_, rows_, backend_->device_readable(), kCheckBytes);
  } else {
    start_slice(transfer);
  }
}

void Mover::start_slice(Transfer& transfer) {
  InFlight flight;
  flight.transfer = &transfer;
  if (!spare_.empty()) {
    flight.memory = std::move(spare_.back());
    spare_.pop_back();
  }
  const auto moves = transfer.next_slice(backend_->slice_limit(), flight.memory);
  ++transfer.in_flight;
  ++transfer.reading;
  const Direction direction = transfer.order().direction;
  flight.ticket = backend_->start({direction, transfer.path(), moves, transfer.mark()});
  flights_[index_of(direction)].push_back(std::move(flight));
}

// Tells what has become true of the transfers, and lets go of those that are over.
void Mover::sweep(Transfers& transfers) {
  std::erase_if(transfers, [this](const std::unique_ptr<Transfer>& transfer) {
    const bool going = transfer->outcome() == Outcome::kDone;
    const bool copied = transfer->planned() && transfer->all_handed_out();
    const bool needed = !transfer->checked && backend_->device_readable();
    if (transfer->in_flight == 0 && (!going || (copied && transfer->checked))) {
      tell(*transfer, Stage::kFinished);
      if (transfer->mark() != kNoMark) backend_->release(transfer->mark());
      return true;
    }
    if (going && copied && transfer->reading == 0 && !needed && !transfer->source_free_told &&
        transfer->order().direction == Direction::kStore) {
      transfer->source_free_told = true;
      tell(*transfer, Stage::kSourceFree);
    }
    return false;
  });
}

void Mover::tell(const Transfer& transfer, Stage stage) {
  const Completion completion{.job = transfer.order().job,
                              .direction = transfer.order().direction,
                              .stage = stage,
                              .outcome = transfer.outcome(),
                              .path = transfer.path(),
                              .bytes = transfer.bytes(),
                              .moves = transfer.move_count(),
                              .queued = transfer.queued,
                              .started = transfer.started,
                              .ended = clock_()};
  const std::lock_guard lock(mutex_);
  completions_.push_back(completion);
  something_completed_.store(true, std::memory_order_release);
  if (stage == Stage::kFinished) {
    open_.erase(completion.job);
    std::erase(to_cancel_, completion.job);  // too late, and the number may be used again
  }
  if (open_.empty()) idle_.notify_all();
}

}  // namespace lamps::swap
