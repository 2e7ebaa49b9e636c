// SPDX-License-Identifier: Apache-2.0
// What a policy may look at: everything the core knows, read-only, and the questions that more than
// one policy asks of it.
#pragma once

#include "lamps/budget.h"
#include "lamps/cost_model.h"
#include "lamps/ledger.h"
#include "lamps/memory_time.h"
#include "lamps/options.h"
#include "lamps/predictor.h"
#include "lamps/types.h"
#include "lamps/waste.h"

namespace lamps {

// How the engine is doing, measured while it serves.
struct Load {
  double pressure = 0.0;       // demand over capacity: 0 while all fits, 1 at twice the capacity
  double crowding = 0.0;       // pressure, averaged over the last seconds
  double loss_share = 1.0;     // of freed KV, the share found evicted at the return (averaged)
  Seconds decode_step = 0.02;  // averaged step time
  // Share of the engine's time that goes into computing again what sessions had, averaged over the
  // time in which it could compute its whole pool kRefills times: seconds on a small engine with
  // short contexts, half an hour where a context takes seconds to compute.
  double recompute_share = 0.0;
  static constexpr double kRefills = 16.0;
};

struct Scene {
  const Engine& engine;
  const Options& options;
  const CostModel& cost;
  const Predictor& predictor;
  const AdmissionBudget& budget;
  const Ledger& ledger;
  const Load& load;

  // Tokens of whole blocks, at most what one request can ever hold.
  [[nodiscard]] Tokens whole_blocks(double tokens) const;
  // Expected tokens of the turn's whole output, those already produced included.
  [[nodiscard]] double expected_output(const Request& request) const;
  [[nodiscard]] Tokens peak_of(const Request& request) const;
  // What is expected of the turn and of the call after it; the handling is left to the policy.
  [[nodiscard]] Outlook outlook_of(const Request& request) const;
  // Whether the host can take so much, if need be by dropping what idle sessions have there.
  [[nodiscard]] bool host_has_room(Tokens tokens) const;
  [[nodiscard]] PauseContext pause_context(Seconds now, const Session& session) const;
};

}  // namespace lamps
