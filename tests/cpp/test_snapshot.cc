// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "expect_error.h"
#include "lamps/errors.h"
#include "lamps/snapshot.h"

namespace lamps {
namespace {

using ::lamps::testing::expect_error;

std::string snapshot_of(const Predictor& predictor, std::size_t slice = 64) {
  SnapshotWriter writer(predictor);
  std::string all;
  for (std::string part = writer.next(slice); !part.empty(); part = writer.next(slice)) all += part;
  return all;
}

TurnFacts facts_of(Predictor& predictor, std::string_view tool, int turn = 1) {
  TurnFacts facts;
  facts.turn = turn;
  facts.last_call = 0.3;
  if (!tool.empty()) facts.tool = predictor.tool_id(tool);
  return facts;
}

std::vector<std::uint64_t> system_prompt() {
  return PromptClasses::beginnings(std::vector<std::int32_t>(500, 42));
}

Predictor experienced() {
  Predictor predictor;
  for (int i = 0; i < 10; ++i) (void)predictor.prompt_class(system_prompt());
  for (int i = 0; i < 300; ++i) {
    TurnFacts quick = facts_of(predictor, "read file/%", i % 7);
    TurnFacts slow = facts_of(predictor, "build", i % 7);
    quick.prompt = predictor.prompt_class(system_prompt());
    predictor.observe_call(quick, 0.1 + 0.001 * i);
    predictor.observe_call(slow, 50.0 + i);
    predictor.observe_output(quick, 20 + i % 50);
    if (i % 10 == 0) predictor.observe_no_return(slow);
  }
  return predictor;
}

TEST(Snapshot, BringsBackEveryAnswer) {
  Predictor before = experienced();
  Predictor after = read_snapshot(snapshot_of(before));
  EXPECT_EQ(after.prompt_class(system_prompt()), before.prompt_class(system_prompt()));
  for (const std::string_view tool : {"read file/%", "build", "never seen", ""}) {
    for (const int turn : {0, 1, 5}) {
      TurnFacts then = facts_of(before, tool, turn), now = facts_of(after, tool, turn);
      then.prompt = now.prompt = 0;
      for (const Seconds elapsed : {0.0, 0.2, 60.0, 1e4}) {
        EXPECT_NEAR(after.remaining_call(now, elapsed), before.remaining_call(then, elapsed),
                    1e-6 * before.remaining_call(then, elapsed));
        EXPECT_NEAR(after.p_return(now, elapsed), before.p_return(then, elapsed), 1e-9);
      }
      EXPECT_NEAR(after.remaining_output(now, 10.0), before.remaining_output(then, 10.0), 1e-6);
    }
  }
  EXPECT_NEAR(after.patience(), before.patience(), 1e-6);
}

TEST(Snapshot, IsTheSameHoweverItIsSliced) {
  const Predictor predictor = experienced();
  const std::string whole = snapshot_of(predictor, 1'000'000);
  for (const std::size_t slice : {1, 2, 7}) EXPECT_EQ(snapshot_of(predictor, slice), whole);
}

TEST(Snapshot, OfASnapshotIsTheSame) {
  const std::string once = snapshot_of(experienced());
  const std::string twice = snapshot_of(read_snapshot(once));
  EXPECT_NEAR(static_cast<double>(twice.size()), static_cast<double>(once.size()),
              0.1 * static_cast<double>(once.size()));  // the last bits of sums may differ
  EXPECT_NO_THROW((void)read_snapshot(twice));
}

TEST(Snapshot, OfNothingIsReadable) {
  const Predictor fresh;
  const Predictor again = read_snapshot(snapshot_of(fresh));
  EXPECT_DOUBLE_EQ(again.remaining_call({}, 0.0), fresh.remaining_call({}, 0.0));
}

TEST(Snapshot, MayLearnBetweenTwoSlices) {
  Predictor predictor = experienced();
  SnapshotWriter writer(predictor);
  std::string all;
  int i = 0;
  for (std::string part = writer.next(1); !part.empty(); part = writer.next(1)) {
    all += part;
    predictor.observe_call(facts_of(predictor, "new " + std::to_string(i % 20)), 0.5 + i);
    ++i;
  }
  EXPECT_NO_THROW((void)read_snapshot(all));
}

TEST(Snapshot, RefusesWhatIsDamaged) {
  const std::string good = snapshot_of(experienced());
  // Every byte changed, one at a time (every 37th: the file is long).
  for (std::size_t i = 0; i < good.size(); i += 37) {
    std::string bad = good;
    bad[i] = bad[i] == '7' ? '8' : '7';
    EXPECT_THROW((void)read_snapshot(bad), BadSnapshot) << i;
  }
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{1}, good.size() / 2, good.size() - 1}) {
    EXPECT_THROW((void)read_snapshot(good.substr(0, length)), BadSnapshot) << length;
  }
}

TEST(Snapshot, SaysWhatIsWrong) {
  const std::string good = snapshot_of(experienced());
  expect_error<BadSnapshot>([&] { (void)read_snapshot("PK\x03\x04 something else"); },
                            "expected 'lamps-predictions 1'");
  std::string newer = good;
  newer.replace(newer.find(" 1\n"), 3, " 2\n");
  expect_error<BadSnapshot>([&] { (void)read_snapshot(newer); }, "version '2': expected 1");
  expect_error<BadSnapshot>([&] { (void)read_snapshot(good.substr(0, good.size() / 2)); },
                            "cut short");
  std::string changed = good;
  changed[good.size() / 2] ^= 1;
  expect_error<BadSnapshot>([&] { (void)read_snapshot(changed); }, "checksum");
}

std::string with_checksum(const std::string& body) {
  const std::string text = "lamps-predictions 1\n" + body;
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char byte : text) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3ULL;
  }
  char hex[17];
  std::snprintf(hex, sizeof hex, "%llx", static_cast<unsigned long long>(hash));
  return text + "end " + hex + "\n";
}

TEST(Snapshot, RefusesWhatNoWriterWrites) {
  EXPECT_NO_THROW((void)read_snapshot(with_checksum("kind 0 0 0 1 2 30:5:6.5\n")));
  for (const char* line :
       {"nonsense 0 0 0 1 2\n", "kind 3 0 0 1 2\n", "kind 0 2 0 1 2\n", "kind 0 0 nan 1 2\n",
        "kind 0 0 0 -1 2\n", "kind 0 0 0 1 inf\n", "kind 0 0 0 1 2 96:1:1\n",
        "kind 0 0 0 1 2 5:-1:1\n", "kind 0 0 0 1 2 5:1\n", "kind 0 0 0 1\n", "tool %4 0 0 1 2\n",
        "turn 0 16 1 1\n", "turn 9 0 1 1\n", "class 512 ff 0\n", "class 0 zz 0\n", "class 0 ff 2\n",
        "class 0 ff 0 more\n", "\n"}) {
    expect_error<BadSnapshot>([&] { (void)read_snapshot(with_checksum(line)); }, "line 2");
  }
}

}  // namespace
}  // namespace lamps
