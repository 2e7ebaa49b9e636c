// SPDX-License-Identifier: Apache-2.0
// What the policy core makes of recognised calls and of sessions that branch.
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "policy_scene.h"

namespace lamps {
namespace {

using namespace lamps::testing;

// A turn of the session from `begin` to `begin` + 1 s that ends with a call of `tools`.
void serve(PolicyCore& core, Seconds begin, SessionHandle session,
           const std::vector<std::string_view>& tools) {
  Arrival arrival = turn(session, session, 500);
  arrival.hints.output_tokens = -1.0;
  core.arrive(begin, arrival);
  core.admitted(begin, session, 0);
  Finish finish = end_of(session, 532, 544);
  finish.end = {true, tools};
  core.finished(begin + 1.0, finish);
}

TEST(PolicyPredictions, CallsAreLearnedByTheToolThatWasRecognised) {
  PolicyCore core(kEngine, oldest_first());
  for (int i = 0; i < 40; ++i) {
    serve(core, 20.0 * i, 0, {"read"});          // returns after 19 s
    serve(core, 20.0 * i + 1.0, 1, {"search"});  // ... and so does this
  }
  TurnFacts read;
  read.tool = core.predictor().tool_id("read");
  EXPECT_NEAR(core.predictor().remaining_call(read, 0.0), 19.0, 4.0);
  std::vector<std::string> scored;
  for (const auto& score : core.predictor().scores()) {
    if (score.what == "tool") scored.push_back(score.name);
  }
  EXPECT_EQ(scored, (std::vector<std::string>{"read", "search"}));
}

TEST(PolicyPredictions, DecisionsNameTheToolAndHowLongItTook) {
  PolicyCore core(kEngine, oldest_first());
  core.record_decisions(true);
  serve(core, 0.0, 0, {"read"});
  core.arrive(4.0, turn(0, 0, 600));
  const auto decisions = core.take_decisions();
  ASSERT_EQ(decisions.size(), 2u);
  EXPECT_EQ(decisions[0].reason, Reason::kPreserved);
  EXPECT_EQ(decisions[1].reason, Reason::kReturned);
  for (const Decision& decision : decisions) {
    EXPECT_EQ(core.predictor().tool_name(decision.tool), "read");
  }
  EXPECT_DOUBLE_EQ(decisions[0].waited, 0.0);
  EXPECT_DOUBLE_EQ(decisions[1].waited, 3.0);
}

TEST(PolicyPredictions, ATurnWithoutACallIsAMessageOnceTheSessionHasCalled) {
  PolicyCore core(kEngine, oldest_first());
  serve(core, 0.0, 0, {});
  serve(core, 10.0, 0, {"read"});
  serve(core, 20.0, 0, {});
  core.arrive(500.0, turn(0, 0, 600));
  std::vector<std::string> kinds;
  for (const auto& score : core.predictor().scores()) {
    if (score.what == "call") kinds.push_back(score.name);
  }
  EXPECT_EQ(kinds.size(), 3u) << "unknown, tool, message";
}

// Long before any of them is taken as ended.
TEST(PolicyPredictions, NobodyIsExpectedBackWhereAllAreSilent) {
  PolicyCore core(kEngine, oldest_first());
  TurnFacts first;
  for (SessionHandle session = 0; session < 20; ++session) serve(core, 0.1 * session, session, {});
  const double before = core.predictor().p_return(first, 0.0);
  for (Seconds now = 3.0; now < 20.0; now += 0.05) {
    (void)core.begin_step(step_at(now, kCapacity));
  }
  const double silent = core.predictor().p_return(first, 0.0);
  EXPECT_LT(silent, 0.2);
  EXPECT_LT(silent, before);
  EXPECT_EQ(core.counters().forgotten, 0);
  for (SessionHandle session = 0; session < 20; ++session) serve(core, 20.0, session, {});
  EXPECT_GT(core.predictor().p_return(first, 0.0), 0.9) << "a return takes its silence back";
}

TEST(PolicyPredictions, AChildTakesItsParentsPlace) {
  PolicyCore core(kEngine, oldest_first());
  core.arrive(0.0, turn(0, 0, 500));
  core.admitted(0.0, 0, 0);
  core.arrive(1.0, turn(1, 1, 500));  // a stranger waits
  Arrival child = turn(2, 2, 500);
  child.parent = 0;
  core.arrive(2.0, child);
  Arrival orphan = turn(3, 3, 500);
  orphan.parent = 77;  // forgotten by now
  core.arrive(3.0, orphan);
  EXPECT_EQ(core.waiting_order(3), (Handles{2, 1, 3}));
}

}  // namespace
}  // namespace lamps
