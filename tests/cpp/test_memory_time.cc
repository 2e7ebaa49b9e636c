// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "lamps/memory_time.h"

namespace lamps {
namespace {

constexpr Seconds kDecodeStep = 0.02;
constexpr Tokens kChunk = 500;

// 10 ms per step, 0.1 ms per prompt token; 1000 B/token at 1e6 B/s: 1 ms per token copied.
CostModel simple_cost() {
  return CostModel({.base = 0.010,
                    .per_prefill = 1.0e-4,
                    .per_decode = 0.0,
                    .per_context = 0.0,
                    .swap_bytes_per_s = 1.0e6,
                    .kv_bytes_per_token = 1000});
}

Outlook simple_outlook() {
  return {.context_tokens = 1000,
          .cached_tokens = 0,
          .output_tokens = 50,
          .handling = Handling::kPreserve,
          .call_seconds = 2.0,
          .p_return = 0.0,
          .further_segments = 0.0};
}

TokenSeconds area_of(const Outlook& outlook) {
  return memory_over_time(outlook, simple_cost(), kDecodeStep, kChunk);
}

// 1000 * 0.1 ms + 2 steps * 10 ms = 0.12 s, at 500 tokens on average
constexpr TokenSeconds kPrefill = 60.0;
// 50 steps * 20 ms = 1 s, at 1000 + 25 tokens on average
constexpr TokenSeconds kDecode = 1025.0;

TEST(MemoryOverTime, AddsPrefillAndDecode) {
  EXPECT_DOUBLE_EQ(area_of(simple_outlook()), kPrefill + kDecode);
}

TEST(MemoryOverTime, CachedTokensNeedNoPrefillButAreHeld) {
  Outlook outlook = simple_outlook();
  outlook.cached_tokens = 600;
  // 400 tokens: 0.04 s + 0.8 steps * 10 ms = 0.048 s, at 800 tokens on average
  EXPECT_DOUBLE_EQ(area_of(outlook), 38.4 + kDecode);
  outlook.cached_tokens = 1000;
  EXPECT_DOUBLE_EQ(area_of(outlook), kDecode);
}

TEST(MemoryOverTime, APreservedCallHoldsTheFullContext) {
  Outlook outlook = simple_outlook();
  outlook.p_return = 0.5;
  // 0.5 * 2 s * 1050 tokens
  EXPECT_DOUBLE_EQ(area_of(outlook), kPrefill + kDecode + 1050.0);
}

TEST(MemoryOverTime, ADiscardedCallIsComputedAgain) {
  Outlook outlook = simple_outlook();
  outlook.p_return = 0.5;
  outlook.handling = Handling::kDiscard;
  // 1050 tokens: 0.105 s + 2.1 steps * 10 ms = 0.126 s, at 525 tokens on average, half of the time
  EXPECT_DOUBLE_EQ(area_of(outlook), kPrefill + kDecode + 0.5 * 0.126 * 525.0);
}

TEST(MemoryOverTime, ASwappedCallHoldsTheContextDuringBothCopies) {
  Outlook outlook = simple_outlook();
  outlook.p_return = 0.5;
  outlook.handling = Handling::kSwap;
  // 1050 tokens * 1 ms each way, at 1050 tokens, half of the time
  EXPECT_DOUBLE_EQ(area_of(outlook), kPrefill + kDecode + 0.5 * 2.0 * 1.05 * 1050.0);
}

TEST(MemoryOverTime, WhatIsOnTheHostIsLoadedAndTheRestComputed) {
  Outlook outlook = simple_outlook();
  outlook.host_tokens = 500;
  // 500 * 1 ms, and 500 * 0.1 ms + 1 step * 10 ms, at 500 tokens on average
  EXPECT_DOUBLE_EQ(area_of(outlook), (0.5 + 0.06) * 500.0 + kDecode);
}

TEST(MemoryOverTime, FurtherSegmentsRepeatDecodeAndCall) {
  Outlook outlook = simple_outlook();
  outlook.p_return = 0.5;
  outlook.further_segments = 3.0;
  EXPECT_DOUBLE_EQ(area_of(outlook), kPrefill + 4.0 * (kDecode + 1050.0));
}

TEST(MemoryOverTime, ACallThatNeverComesCostsNothingEvenIfItWouldLastForEver) {
  Outlook outlook = simple_outlook();
  outlook.call_seconds = kForever;
  EXPECT_DOUBLE_EQ(area_of(outlook), kPrefill + kDecode);
}

TEST(MemoryOverTime, GrowsWithEveryQuantity) {
  const TokenSeconds reference = area_of(simple_outlook());
  Outlook longer = simple_outlook();
  longer.context_tokens += 1;
  EXPECT_GT(area_of(longer), reference);
  longer = simple_outlook();
  longer.output_tokens += 0.5;
  EXPECT_GT(area_of(longer), reference);
  EXPECT_GT(memory_over_time(simple_outlook(), simple_cost(), 2 * kDecodeStep, kChunk), reference);
  EXPECT_EQ(area_of({}), 0.0);
}

}  // namespace
}  // namespace lamps
