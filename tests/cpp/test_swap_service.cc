// SPDX-License-Identifier: Apache-2.0
// In which order the mover serves jobs, and what it says when: with a backend led by the test.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "expect_error.h"
#include "lamps/errors.h"
#include "swap/mover.h"
#include "swap_backends.h"

namespace lamps::swap {
namespace {

using lamps::testing::error_of;
using testing::LedBackend;

constexpr Seconds kPatience = 60;
constexpr Address kDevice = 1 << 20;
constexpr Bytes kPage = 64;

class Service : public ::testing::Test {
 protected:
  Service() {
    auto backend = std::make_unique<LedBackend>();
    backend_ = backend.get();
    // Blocks with gaps: every block is a move, and every move a slice.
    mover_ =
        std::make_unique<Mover>(Layout({{kDevice, 2 * kPage, kPage}}, 1000), std::move(backend),
                                MoverOptions{.host_rows = 100}, [] { return 0.0; });
  }
  ~Service() override {
    finish_all();
    mover_.reset();
  }

  static Job job(JobId id, Direction direction, BlockId first, BlockId count, int priority = 0,
                 Seconds deadline = kForever) {
    Job made{.priority = priority, .deadline = deadline};
    made.order = {id, direction, {}, {}, {{{0, count}, count}}};
    for (BlockId i = 0; i < count; ++i) {
      made.order.blocks.push_back(first + i);
      made.order.slots.push_back(i);
    }
    return made;
  }
  // The block that the n-th slice moves, once it has been started.
  BlockId block_of(std::size_t slice) {
    const LedBackend::Started started = backend_->slice(slice);
    const Address device =
        started.direction == Direction::kStore ? started.move.source : started.move.target;
    return static_cast<BlockId>((device - kDevice) / (2 * kPage));
  }
  std::vector<BlockId> blocks_started() {
    std::vector<BlockId> blocks;
    for (std::size_t i = 0; i < backend_->started(); ++i) blocks.push_back(block_of(i));
    return blocks;
  }
  void finish_all() {
    while (!mover_->wait_idle(0.0005)) {
      for (std::size_t i = 0; i < backend_->started(); ++i) backend_->set(i, SliceState::kDone);
    }
  }
  // Waits for `count` completions in all.
  const std::vector<Completion>& completions(std::size_t count) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (seen_.size() < count && std::chrono::steady_clock::now() < until) {
      mover_->poll(seen_);
      std::this_thread::yield();
    }
    EXPECT_EQ(seen_.size(), count);
    return seen_;
  }
  // Gives the mover's thread time to do what it should not.
  static void linger() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

  LedBackend* backend_;
  std::unique_ptr<Mover> mover_;
  std::vector<Completion> seen_;
};

TEST_F(Service, ALoadDoesNotWaitBehindStores) {
  for (JobId id = 1; id <= 5; ++id) {
    mover_->submit(job(id, Direction::kStore, static_cast<BlockId>(100 * id), 10));
  }
  EXPECT_EQ(block_of(0), 100);
  EXPECT_EQ(block_of(1), 101);
  linger();
  EXPECT_EQ(backend_->started(), 2U);  // no more than that is ahead of anyone
  mover_->submit(job(6, Direction::kLoad, 700, 1));
  EXPECT_EQ(block_of(2), 700);  // though no slice of the stores has ended
}

TEST_F(Service, HigherPriorityThenEarlierDeadlineThenFirstCome) {
  mover_->submit(job(1, Direction::kLoad, 100, 2));
  (void)backend_->slice(1);  // the device is busy: the following wait
  mover_->submit(job(2, Direction::kLoad, 200, 1));
  mover_->submit(job(3, Direction::kLoad, 300, 1, 0, 9.0));
  mover_->submit(job(4, Direction::kLoad, 400, 1, 0, 5.0));
  mover_->submit(job(5, Direction::kLoad, 500, 1));
  mover_->submit(job(6, Direction::kLoad, 600, 1, 1));
  linger();
  finish_all();
  EXPECT_EQ(blocks_started(), (std::vector<BlockId>{100, 101, 600, 400, 300, 200, 500}));
}

TEST_F(Service, AnUrgentJobOvertakesWithinALongOne) {
  mover_->submit(job(1, Direction::kStore, 100, 4));
  (void)backend_->slice(1);
  mover_->submit(job(2, Direction::kStore, 200, 1, 1));
  linger();
  backend_->set(0, SliceState::kDone);
  EXPECT_EQ(block_of(2), 200);
  finish_all();
  EXPECT_EQ(completions(2)[0].job, 2);
}

TEST_F(Service, SourceBlocksAreFreeBeforeTheCopyIsComplete) {
  mover_->submit(job(1, Direction::kStore, 100, 2));
  (void)backend_->slice(1);
  backend_->set(0, SliceState::kSourceFree);
  linger();
  mover_->poll(seen_);
  EXPECT_TRUE(seen_.empty());  // the other slice is still being read
  backend_->set(1, SliceState::kSourceFree);
  EXPECT_EQ(completions(1)[0].stage, Stage::kSourceFree);
  backend_->set(0, SliceState::kDone);
  linger();
  mover_->poll(seen_);
  EXPECT_EQ(seen_.size(), 1U);
  backend_->set(1, SliceState::kDone);
  EXPECT_EQ(completions(2)[1].stage, Stage::kFinished);
  EXPECT_EQ(seen_[1].outcome, Outcome::kDone);
}

TEST_F(Service, ALoadIsNeverSourceFree) {
  mover_->submit(job(1, Direction::kLoad, 100, 1));
  (void)backend_->slice(0);
  backend_->set(0, SliceState::kSourceFree);
  linger();
  backend_->set(0, SliceState::kDone);
  EXPECT_EQ(completions(1)[0].stage, Stage::kFinished);
}

TEST_F(Service, CancellingWaitsForCopiesInFlight) {
  mover_->submit(job(1, Direction::kStore, 100, 5));
  (void)backend_->slice(1);
  EXPECT_TRUE(mover_->cancel(1));
  backend_->set(0, SliceState::kDone);
  linger();
  mover_->poll(seen_);
  EXPECT_TRUE(seen_.empty());
  EXPECT_EQ(backend_->started(), 2U);  // nothing new is started
  backend_->set(1, SliceState::kDone);
  EXPECT_EQ(completions(1)[0].outcome, Outcome::kCancelled);
  EXPECT_FALSE(mover_->cancel(1));
  EXPECT_FALSE(mover_->cancel(77));
}

TEST_F(Service, AJobThatWaitsIsCancelledAtOnce) {
  mover_->submit(job(1, Direction::kLoad, 100, 2));
  (void)backend_->slice(1);
  mover_->submit(job(2, Direction::kLoad, 200, 2));
  EXPECT_TRUE(mover_->cancel(2));
  EXPECT_EQ(completions(1)[0].job, 2);
  EXPECT_EQ(seen_[0].outcome, Outcome::kCancelled);
  finish_all();
  EXPECT_EQ(blocks_started(), (std::vector<BlockId>{100, 101}));
}

TEST_F(Service, AFailureStopsTheJobWhenItsOtherCopiesAreOver) {
  mover_->submit(job(1, Direction::kLoad, 100, 5));
  (void)backend_->slice(1);
  backend_->set(0, SliceState::kFailed);
  linger();
  mover_->poll(seen_);
  EXPECT_TRUE(seen_.empty());
  backend_->set(1, SliceState::kDone);
  EXPECT_EQ(completions(1)[0].outcome, Outcome::kCopyFailed);
  EXPECT_EQ(backend_->started(), 2U);
}

TEST_F(Service, JobsWaitForTheirStreamAndMarksAreGivenBack) {
  Job marked = job(1, Direction::kStore, 100, 1);
  marked.after_stream = 0;  // a handle like any other
  mover_->submit(std::move(marked));
  EXPECT_EQ(backend_->slice(0).after, 1000);
  mover_->submit(job(2, Direction::kLoad, 200, 1));
  EXPECT_EQ(backend_->slice(1).after, kNoMark);
  EXPECT_EQ(backend_->marks_held(), 1);
  finish_all();
  completions(2);
  linger();
  EXPECT_EQ(backend_->marks_held(), 0);
}

TEST_F(Service, AJobNumberIsUsedByOneJobAtATime) {
  mover_->submit(job(1, Direction::kLoad, 100, 1));
  EXPECT_EQ(error_of<UnknownHandle>([&] { mover_->submit(job(1, Direction::kLoad, 200, 1)); }),
            "job 1 is under way: expected a new one");
  finish_all();
  EXPECT_NO_THROW(mover_->submit(job(1, Direction::kLoad, 200, 1)));
}

TEST_F(Service, StoppingCancelsAndWaitsForCopiesInFlight) {
  mover_->submit(job(1, Direction::kStore, 100, 5));
  mover_->submit(job(2, Direction::kStore, 200, 5));
  (void)backend_->slice(1);
  std::thread stopper([&] { mover_->stop(); });
  linger();
  backend_->set(0, SliceState::kDone);
  backend_->set(1, SliceState::kDone);
  stopper.join();
  mover_->submit(job(3, Direction::kLoad, 300, 1));
  EXPECT_EQ(completions(3).size(), 3U);
  for (const Completion& completion : seen_) EXPECT_EQ(completion.outcome, Outcome::kCancelled);
  EXPECT_EQ(backend_->started(), 2U);
  EXPECT_TRUE(mover_->wait_idle(kPatience));
  EXPECT_NO_THROW(mover_->stop());
}

TEST_F(Service, CallersFromManyThreads) {
  constexpr int kThreads = 4, kJobs = 200;
  std::vector<std::thread> callers;
  for (int t = 0; t < kThreads; ++t) {
    callers.emplace_back([&, t] {
      for (int i = 0; i < kJobs; ++i) {
        const JobId id = 1 + t * kJobs + i;
        mover_->submit(job(id, i % 2 ? Direction::kLoad : Direction::kStore, i, 1));
        if (i % 7 == 0) mover_->cancel(id);
      }
    });
  }
  while (backend_->started() < 100) {
    for (std::size_t i = 0; i < backend_->started(); ++i) backend_->set(i, SliceState::kDone);
  }
  for (std::thread& caller : callers) caller.join();
  finish_all();
  EXPECT_EQ(completions(kThreads * kJobs).size(), std::size_t{kThreads * kJobs});
}

}  // namespace
}  // namespace lamps::swap
