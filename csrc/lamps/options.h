// SPDX-License-Identifier: Apache-2.0
// What an operator may set. Every default is the recommended value; docs/options.md says how each
// was found. validate() is called by PolicyCore, so a bad value never starts a server.
#pragma once

#include "lamps/cost_model.h"
#include "lamps/policy_name.h"
#include "lamps/types.h"

namespace lamps {

struct Options {
  // What decides; the options below are those of `lamps`, and other policies read what they know.
  PolicyName policy = PolicyName::kLamps;

  // Order. A waiting request's virtual deadline is its session's arrival plus
  // rank_weight * (memory-over-time / KV capacity): seconds of delay per second of whole-device
  // memory it is predicted to use, at most rank_horizon seconds. 0: oldest session first.
  double rank_weight = 50.0;    // [0, 1e6], dimensionless
  Seconds rank_horizon = 30.0;  // [0, 1e6]
  // Waiting bound: a request that has waited this many steps and this many seconds is overdue and
  // goes before everything that is not.
  Steps starvation_threshold = 100;   // [1, 1e9], the paper's value
  Seconds starvation_seconds = 60.0;  // [0, 1e6]; twice the horizon: a bound, not an order
  Steps score_update_interval = 10;   // [1, 1e6]: every waiting rank is refreshed once per so many
                                      // steps, a few per step, never all at once

  // Admission. Share of the KV capacity that admitted sessions' projected peaks may fill. It starts
  // at the maximum, shrinks while returning turns are seen to have lost their KV against our will,
  // and recovers.
  double admission_share = 1.0;      // [0.1, 1]
  double min_admission_share = 0.9;  // [0.1, admission_share]

  // Pauses.
  Seconds redecide_seconds = 0.1;   // [0.001, 3600]: first re-decision of a paused session; later
                                    // ones come when the pause has grown by half
  Seconds forget_seconds = 3600.0;  // [1, 1e7]: a paused session is forgotten at the latest then
  bool preserve = true;             // keep KV across calls at all

  // Preemption. A running request is put behind another one as a victim only if its loss is smaller
  // by this share; otherwise the present order stays.
  double victim_hysteresis = 0.2;  // [0, 10]

  CostParameters cost;

  // Throws InvalidOption naming the first option outside its range.
  void validate() const;
};

// What the engine is, fixed at start.
struct Engine {
  Tokens capacity_tokens = 0;  // KV positions in the pool, > 0
  Tokens block_tokens = 16;    // positions per block, > 0
  Tokens max_context = 0;      // longest sequence the engine takes, > 0
  Tokens step_tokens = 2048;   // tokens one step may compute, > 0
  Tokens host_tokens = 0;      // KV positions that host memory takes, >= 0; 0: no host tier

  void validate() const;  // throws InvalidOption
};

}  // namespace lamps
