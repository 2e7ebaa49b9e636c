// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "lamps/errors.h"
#include "lamps/ledger.h"

namespace lamps {
namespace {

TEST(Ledger, FollowsATurnFromArrivalToHeldPause) {
  Ledger ledger;
  ledger.enter(3, 10.0);
  ledger.add_waiting(0, 3).prompt_tokens = 100;
  ledger.set_footprint(0, 160, 32);
  EXPECT_EQ(ledger.waiting(), 1U);
  EXPECT_EQ(ledger.waiting_need(), 128);
  EXPECT_EQ(ledger.session(3).arrival, 10.0);
  EXPECT_EQ(ledger.session(3).live, 1);

  ledger.start(0);
  EXPECT_EQ(ledger.waiting(), 0U);
  EXPECT_EQ(ledger.waiting_need(), 0);
  EXPECT_EQ(ledger.running(), 1U);
  EXPECT_EQ(ledger.running_context(), 32);
  EXPECT_EQ(ledger.running_growth(), 128);

  ledger.set_context(0, 140);
  EXPECT_EQ(ledger.running_context(), 140);
  EXPECT_EQ(ledger.running_growth(), 20);
  ledger.set_context(0, 200);  // outgrew its projection
  EXPECT_EQ(ledger.running_growth(), 0);

  ledger.remove(0);
  ledger.hold(3, 192);
  EXPECT_EQ(ledger.running(), 0U);
  EXPECT_EQ(ledger.running_context(), 0);
  EXPECT_EQ(ledger.held_tokens(), 192);
  EXPECT_EQ(ledger.holders(), std::vector<SessionHandle>{3});
  ledger.check_invariants();

  ledger.release(3);
  EXPECT_EQ(ledger.held_tokens(), 0);
  ledger.release(3);  // nothing more to let go
  ledger.erase(3);
  EXPECT_FALSE(ledger.has_session(3));
  EXPECT_EQ(ledger.sessions(), 0U);
  ledger.check_invariants();
}

TEST(Ledger, APreemptedRequestWaitsForItsWholeContextAgain) {
  Ledger ledger;
  ledger.enter(0, 1.0);
  ledger.add_waiting(5, 0).prompt_tokens = 100;
  ledger.set_footprint(5, 160, 64);
  ledger.start(5);
  ledger.set_context(5, 130);
  ledger.stop(5);
  const Request& request = ledger.request(5);
  EXPECT_EQ(request.state, RequestState::kWaiting);
  EXPECT_TRUE(request.preempted);
  EXPECT_EQ(request.prompt_tokens, 130);
  EXPECT_EQ(request.context_tokens, 0);
  EXPECT_EQ(request.shared_tokens, 0);
  EXPECT_EQ(ledger.waiting_need(), 160);
  EXPECT_EQ(ledger.running_context(), 0);
  ledger.check_invariants();
}

TEST(Ledger, ASecondTurnKeepsTheAgeOfTheSession) {
  Ledger ledger;
  ledger.enter(0, 5.0);
  ledger.enter(0, 9.0);
  EXPECT_EQ(ledger.session(0).arrival, 5.0);
  EXPECT_EQ(ledger.sessions(), 1U);
}

TEST(Ledger, AReusedHandleStartsFresh) {
  Ledger ledger;
  ledger.enter(0, 5.0).last_call = 3.0;
  ledger.erase(0);
  EXPECT_EQ(ledger.enter(0, 9.0).arrival, 9.0);
  EXPECT_EQ(ledger.session(0).last_call, -1.0);
}

TEST(Ledger, HoldReplacesWhatWasHeld) {
  Ledger ledger;
  for (SessionHandle session = 0; session < 4; ++session) {
    ledger.enter(session, 0.0);
    ledger.hold(session, 10 * (session + 1));
  }
  ledger.hold(1, 7);
  EXPECT_EQ(ledger.held_tokens(), 10 + 7 + 30 + 40);
  ledger.hold(2, 0);
  EXPECT_EQ(ledger.held_tokens(), 10 + 7 + 40);
  EXPECT_EQ(ledger.holders().size(), 3U);
  ledger.check_invariants();
}

TEST(Ledger, RefusesHandlesInTheWrongState) {
  Ledger ledger;
  EXPECT_THROW(ledger.enter(-1, 0.0), UnknownHandle);
  EXPECT_THROW(ledger.add_waiting(0, 0), UnknownHandle);  // no such session
  ledger.enter(0, 0.0);
  EXPECT_THROW(ledger.add_waiting(-1, 0), UnknownHandle);
  ledger.add_waiting(0, 0);
  EXPECT_THROW(ledger.add_waiting(0, 0), UnknownHandle);
  EXPECT_THROW(ledger.stop(0), UnknownHandle);
  EXPECT_THROW(ledger.set_context(0, 5), UnknownHandle);
  EXPECT_THROW(ledger.erase(0), UnknownHandle);  // has a live request
  ledger.start(0);
  EXPECT_THROW(ledger.start(0), UnknownHandle);
  ledger.remove(0);
  ledger.hold(0, 5);
  EXPECT_THROW(ledger.erase(0), UnknownHandle);  // holds KV
  for (const std::int32_t handle : {-1, 1, 1'000'000}) {
    EXPECT_FALSE(ledger.has_request(handle));
    EXPECT_FALSE(ledger.has_session(handle));
    EXPECT_THROW((void)ledger.request(handle), UnknownHandle);
    EXPECT_THROW((void)ledger.session(handle), UnknownHandle);
    EXPECT_THROW(ledger.set_footprint(handle, 1, 0), UnknownHandle);
    EXPECT_THROW(ledger.start(handle), UnknownHandle);
    EXPECT_THROW(ledger.remove(handle), UnknownHandle);
    EXPECT_THROW(ledger.hold(handle, 1), UnknownHandle);
    EXPECT_THROW(ledger.release(handle), UnknownHandle);
    EXPECT_THROW(ledger.erase(handle), UnknownHandle);
  }
  ledger.check_invariants();
}

TEST(Ledger, FollowsKvToTheHostAndBack) {
  Ledger ledger;
  ledger.enter(0, 0.0);
  ledger.hold(0, 96);
  ledger.swap_out(0);
  EXPECT_EQ(ledger.session(0).resident_tokens(), 96);  // still in the pool, but nobody's to let go
  EXPECT_TRUE(ledger.holders().empty());
  EXPECT_EQ(ledger.host_tokens(), 96);
  EXPECT_EQ(ledger.leaving_tokens(), 96);
  ledger.swapped_out(0);
  EXPECT_EQ(ledger.session(0).resident_tokens(), 0);
  EXPECT_EQ(ledger.leaving_tokens(), 0);
  ledger.load(0);
  EXPECT_EQ(ledger.session(0).resident_tokens(), 96);
  EXPECT_EQ(ledger.host_tokens(), 96);
  ledger.loaded(0);
  EXPECT_EQ(ledger.host_tokens(), 96);  // the copy stays
  EXPECT_EQ(ledger.held_tokens(), 96);
  ledger.drop_host(0);
  EXPECT_EQ(ledger.host_tokens(), 0);
  EXPECT_EQ(ledger.held_tokens(), 96);
  ledger.check_invariants();
}

TEST(Ledger, FollowsACopyOfKvThatIsKept) {
  Ledger ledger;
  ledger.enter(0, 0.0);
  ledger.hold(0, 96);
  ledger.pause(0, 1.0);
  ledger.copy_ahead(0);
  EXPECT_EQ(ledger.held_tokens(), 96);
  EXPECT_EQ(ledger.host_tokens(), 96);
  EXPECT_EQ(ledger.copying_tokens(), 96);
  EXPECT_EQ(ledger.leaving_tokens(), 0);
  EXPECT_EQ(ledger.idle_host_tokens(), 0);
  ledger.swapped_out(0);
  EXPECT_EQ(ledger.session(0).copy, Copy::kBoth);
  EXPECT_EQ(ledger.copying_tokens(), 0);
  EXPECT_EQ(ledger.idle_host_tokens(), 96);
  EXPECT_EQ(ledger.session(0).resident_tokens(), 96);
  ledger.release(0);
  EXPECT_EQ(ledger.session(0).copy, Copy::kHost);
  EXPECT_EQ(ledger.held_tokens(), 0);
  EXPECT_EQ(ledger.idle_host_tokens(), 96);
  ledger.check_invariants();
}

TEST(Ledger, ACopyOfKvThatIsKeptCanTurnIntoOneOutOfIt) {
  Ledger ledger;
  ledger.enter(0, 0.0);
  ledger.hold(0, 96);
  ledger.copy_ahead(0);
  ledger.swap_out(0);
  EXPECT_EQ(ledger.session(0).copy, Copy::kOut);
  EXPECT_EQ(ledger.host_tokens(), 96);
  EXPECT_EQ(ledger.leaving_tokens(), 96);
  EXPECT_EQ(ledger.copying_tokens(), 0);
  EXPECT_EQ(ledger.held_tokens(), 0);
  ledger.check_invariants();
}

TEST(Ledger, RefusesCopiesInTheWrongState) {
  Ledger ledger;
  ledger.enter(0, 0.0);
  EXPECT_THROW(ledger.swap_out(0), UnknownHandle);  // holds nothing
  EXPECT_THROW(ledger.swapped_out(0), UnknownHandle);
  EXPECT_THROW(ledger.keep_after_all(0), UnknownHandle);
  EXPECT_THROW(ledger.load(0), UnknownHandle);
  EXPECT_THROW(ledger.loaded(0), UnknownHandle);
  EXPECT_THROW(ledger.copy_ahead(0), UnknownHandle);
  EXPECT_THROW(ledger.swap_out(1), UnknownHandle);
  ledger.hold(0, 96);
  ledger.copy_ahead(0);
  EXPECT_THROW(ledger.copy_ahead(0), UnknownHandle);
  EXPECT_THROW(ledger.release(0), UnknownHandle);  // while it is read
  EXPECT_THROW(ledger.load(0), UnknownHandle);
  ledger.swap_out(0);
  EXPECT_THROW(ledger.swap_out(0), UnknownHandle);
  EXPECT_THROW(ledger.load(0), UnknownHandle);  // not there yet
  EXPECT_THROW(ledger.erase(0), UnknownHandle);
  ledger.drop_host(0);
  ledger.drop_host(0);  // nothing more to drop
  ledger.erase(0);
  EXPECT_EQ(ledger.leaving_tokens(), 0);
  ledger.check_invariants();
}

class LedgerUnderRandomEvents : public ::testing::TestWithParam<unsigned> {};

// One step of the way to the host and back, kept meanwhile or not.
void move_copy(Ledger& ledger, SessionHandle session, bool kept) {
  switch (ledger.session(session).copy) {
    case Copy::kNone:
      if (ledger.session(session).held_tokens == 0) return;
      return kept ? ledger.copy_ahead(session) : ledger.swap_out(session);
    case Copy::kCopying:
      return kept ? ledger.swapped_out(session) : ledger.swap_out(session);
    case Copy::kBoth:
      return ledger.release(session);
    case Copy::kOut:
      return ledger.swapped_out(session);
    case Copy::kHost:
      return ledger.load(session);
    case Copy::kIn:
      return ledger.loaded(session);
  }
}

// check_invariants() counts everything afresh; here it is called all the time.
TEST_P(LedgerUnderRandomEvents, SumsStayRight) {
  constexpr int kRequests = 60;
  constexpr int kSessions = 25;
  std::mt19937 random(GetParam());
  const auto below = [&](int bound) {
    return static_cast<int>(random() % static_cast<unsigned>(bound));
  };
  Ledger ledger;
  for (int event = 0; event < 100'000; ++event) {
    const RequestHandle request = below(kRequests);
    const SessionHandle session = below(kSessions);
    const bool exists = ledger.has_request(request);
    const bool running = exists && ledger.request(request).state == RequestState::kRunning;
    switch (below(7)) {
      case 0:
        ledger.enter(session, event);
        if (!exists) ledger.add_waiting(request, session).prompt_tokens = below(100);
        break;
      case 1:
        if (exists) ledger.set_footprint(request, below(500), below(200));
        break;
      case 2:
        if (exists && !running)
          ledger.start(request);
        else if (running)
          ledger.set_context(request, below(600));
        break;
      case 3:
        if (running) ledger.stop(request);
        break;
      case 4:
        if (exists && below(2) == 0) ledger.remove(request);
        break;
      case 5:
        if (ledger.has_session(session)) move_copy(ledger, session, below(2) == 0);
        break;
      default:
        if (!ledger.has_session(session)) break;
        if (below(2) == 0) ledger.pause(session, event);
        if (ledger.session(session).copy == Copy::kCopying) ledger.drop_host(session);
        if (below(2) == 0 && ledger.session(session).copy == Copy::kNone)
          ledger.hold(session, below(300));
        else
          ledger.release(session);
        if (below(3) == 0) ledger.drop_host(session);
        if (ledger.session(session).live == 0 && ledger.session(session).held_tokens == 0 &&
            ledger.session(session).copy == Copy::kNone) {
          ledger.erase(session);
        }
    }
    if (event % 20 == 0) {
      ASSERT_NO_THROW(ledger.check_invariants()) << event;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, LedgerUnderRandomEvents, ::testing::Values(1U, 2U, 3U));

}  // namespace
}  // namespace lamps
