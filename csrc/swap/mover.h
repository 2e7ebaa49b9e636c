// SPDX-License-Identifier: Apache-2.0
// Carries out orders to copy KV blocks between a device and host memory, on a thread of its own.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <vector>

#include "swap/host_memory.h"
#include "swap/transfer.h"

namespace lamps::swap {

using Clock = std::function<Seconds()>;

struct MoverOptions {
  Row host_rows = 0;       // size of host memory; orders name rows below it
  bool checksums = false;  // verify every load against what was stored
  Calibration calibration = {};
};

enum class Stage : std::uint8_t {
  kSourceFree,  // of a store: its blocks may be reused; the copy is still on its way
  kFinished,    // the last word on the job; its blocks and rows are no longer touched
};

struct Completion {
  JobId job = kNoJob;
  Direction direction = Direction::kStore;
  Stage stage = Stage::kFinished;
  Outcome outcome = Outcome::kDone;
  Path path = Path::kDirect;
  Bytes bytes = 0;
  std::int64_t moves = 0;                      // after merging
  Seconds queued = 0, started = 0, ended = 0;  // by the mover's clock; started: first slice
};

// submit(), cancel() and poll() only enqueue or dequeue: microseconds, whatever the job's size.
// They may be called from any thread. In service, jobs of higher priority go first, then earlier
// deadlines, then the order of submission. The directions are independent: where the device can,
// they overlap; where it cannot, loads go first. Jobs are cut into slices, so a load waits for
// one slice of a store, never for a queue of stores. Stores may wait for as long as loads arrive
// faster than they are served.
class Mover {
 public:
  // Takes host memory for options.host_rows rows and starts the thread. Throws what HostMemory
  // and Backend::attach do.
  Mover(const Layout& device, std::unique_ptr<Backend> backend, const MoverOptions& options,
        Clock clock);
  ~Mover();  // stop(), then gives the host memory back
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;

  // Blocks and rows of the order belong to the mover until its completion of stage kFinished, or
  // blocks of a store until kSourceFree; cancelling does not change that. Throws InvalidOption for
  // a job, deadline, block, slot or extent out of range, UnknownHandle for a job that is under way.
  void submit(Job job);
  // The job will end as kCancelled unless it is all but over. False if it has ended.
  bool cancel(JobId job);
  // Appends what has happened since the last call. Never waits.
  void poll(std::vector<Completion>& completions);
  // Waits until no job is left, but not longer than `timeout` of real time; whether there is none.
  bool wait_idle(Seconds timeout);
  // Cancels all jobs, waits for copies in flight, ends the thread. poll() still works; jobs
  // submitted later are cancelled at once. Idempotent.
  void stop();

  [[nodiscard]] const Layout& layout() const { return planner_.layout(); }
  [[nodiscard]] const HostMemory& host() const { return host_; }

 private:
  using Transfers = std::vector<std::unique_ptr<Transfer>>;
  struct InFlight {
    Transfer* transfer = nullptr;
    Ticket ticket = 0;
    std::vector<Move> memory;  // of its moves
    bool source_free = false;
  };

  void validate(const Job& job) const;
  // The thread (mover_thread.cc).
  void run();
  bool take_requests(bool progress);
  bool watch_flights(std::deque<InFlight>& flights);
  bool serve(Direction direction);
  [[nodiscard]] bool can_advance(const Transfer& transfer) const;
  [[nodiscard]] bool check_comes_first(const Transfer& transfer) const;
  void advance(Transfer& transfer);
  void start_slice(Transfer& transfer);
  void sweep(Transfers& transfers);
  void tell(const Transfer& transfer, Stage stage);

  Clock clock_;
  HostMemory host_;
  std::vector<std::uint64_t> checksums_;
  HostRows rows_;
  Calibration calibration_;
  std::unique_ptr<Backend> backend_;
  Planner planner_;

  // Shared with callers, under the mutex.
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  Transfers inbox_;
  std::vector<JobId> to_cancel_;
  std::unordered_set<JobId> open_;  // submitted, not finished
  std::vector<Completion> completions_;
  std::int64_t sequence_ = 0;
  bool stop_ = false;
  bool asleep_ = false;
  std::atomic<bool> something_completed_ = false;  // lets poll() skip the mutex

  // The thread's own.
  Transfers active_[2];                   // by direction
  std::deque<InFlight> flights_[2];       // by direction
  std::vector<std::vector<Move>> spare_;  // for InFlight::memory

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace lamps::swap
