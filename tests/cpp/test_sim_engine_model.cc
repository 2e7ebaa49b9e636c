// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "expect_error.h"
#include "lamps/errors.h"
#include "sim/engine_model.h"
#include "sim_scene.h"

namespace lamps::sim {
namespace {

TEST(EngineModel, StepTimeIsTheSumOfItsParts) {
  EngineModel engine = testing::small_engine(8);
  EXPECT_DOUBLE_EQ(engine.step_time(10, 3), 1.0 + 0.007 + 0.03);
  EXPECT_DOUBLE_EQ(engine.attention_time(5, 100), 0.0);
  engine.cost.per_context = 1e-3;
  engine.per_prefill_context = 1e-4;
  EXPECT_DOUBLE_EQ(engine.attention_time(1, 100), 0.1);
  EXPECT_DOUBLE_EQ(engine.attention_time(5, 100), 0.1 + 1e-4 * 5 * 102.5);
}

TEST(EngineModel, CopyTimeFollowsTheBandwidth) {
  EngineModel engine = testing::small_engine(8);
  engine.cost.kv_bytes_per_token = 1000;
  engine.cost.swap_bytes_per_s = 4000.0;
  EXPECT_DOUBLE_EQ(engine.copy_time(8), 2.0);
}

TEST(EngineModel, NamesWhatIsOutOfRange) {
  using lamps::testing::error_of;
  const auto refuses = [](auto change, const std::string& part) {
    EngineModel engine = testing::small_engine(8);
    change(engine);
    const std::string message = error_of<InvalidOption>([&] { engine.validate(); });
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  refuses([](EngineModel& engine) { engine.block_tokens = 0; }, "block_tokens = 0");
  refuses([](EngineModel& engine) { engine.max_context = 33; }, "capacity_tokens = 32");
  refuses([](EngineModel& engine) { engine.step_tokens = 0; }, "step_tokens = 0");
  refuses([](EngineModel& engine) { engine.max_running = 0; }, "max_running = 0");
  refuses([](EngineModel& engine) { engine.idle_step = 0.0; }, "idle_step = 0");
  refuses([](EngineModel& engine) { engine.cost.base = 0.0; }, "base = 0");
  refuses([](EngineModel& engine) { engine.per_prefill_context = 1.0; }, "per_prefill_context = 1");
  refuses([](EngineModel& engine) { engine.host_tokens = 8; }, "host_bytes_per_s = 0");
}

TEST(EngineModel, EveryNameIsUnderstood) {
  for (const auto name : scheduling_names()) {
    EXPECT_EQ(scheduling_names()[static_cast<std::size_t>(scheduling_from(name))], name);
  }
  for (const auto name : routing_names()) {
    EXPECT_EQ(routing_names()[static_cast<std::size_t>(routing_from(name))], name);
  }
  for (const auto name : host_use_names()) {
    EXPECT_EQ(host_use_names()[static_cast<std::size_t>(host_use_from(name))], name);
  }
  EXPECT_THROW((void)host_use_from("disk"), InvalidOption);
}

}  // namespace
}  // namespace lamps::sim
