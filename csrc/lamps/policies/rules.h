// SPDX-License-Identifier: Apache-2.0
// What makes a policy: how it orders who waits, whom it lets in, what it does with a pause, and who
// is preempted first. PolicyCore keeps the books and does everything else, the same for all. The
// answers given here are those of a policy that adds nothing to the engine's own behaviour.
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "lamps/policy_name.h"
#include "lamps/ready_queue.h"
#include "lamps/scene.h"
#include "lamps/types.h"

namespace lamps {

// Service classes of a ReadyKey that mean the same to every policy.
inline constexpr std::uint8_t kOverdueClass = 0;
inline constexpr std::uint8_t kResidentClass = 1;
inline constexpr std::uint8_t kRestClass = 2;
inline constexpr std::uint8_t kClosedClass = 255;  // may not enter now

// What happens to a pause from now on.
struct Verdict {
  Handling handling = Handling::kDiscard;
  // While preserved: seconds until it is decided again; kForever: no more; kUsual: when the pause
  // has grown by half, Options::redecide_seconds at first.
  static constexpr Seconds kUsual = -1.0;
  Seconds again = kUsual;
};

struct Overruled {
  SessionHandle session;
  Handling handling;
};

// When waiting requests are given new keys.
enum class Refresh : std::uint8_t {
  kNever,  // keys stay as they were at arrival
  kSome,   // each once per Options::score_update_interval steps, a few per step
  kAll     // all of them in every step that is a multiple of Options::score_update_interval
};

class Rules {
 public:
  explicit Rules(const Scene& scene) : scene_(scene) {}
  virtual ~Rules() = default;
  Rules(const Rules&) = delete;
  Rules& operator=(const Rules&) = delete;

  // --- order ---
  [[nodiscard]] virtual ReadyKey key_of(const Request& request) const = 0;
  [[nodiscard]] virtual Refresh refresh() const { return Refresh::kNever; }
  // Whether the waiting bound holds for this request: overdue after Options::starvation_threshold
  // steps and starvation_seconds() seconds of waiting.
  [[nodiscard]] virtual bool ages(const Request& /*request*/) const { return false; }
  [[nodiscard]] virtual Seconds starvation_seconds() const { return 0.0; }
  // Whether an overdue request that is preempted stays overdue.
  [[nodiscard]] virtual bool stays_overdue() const { return false; }

  // --- admission ---
  // Ungated: everyone is offered in order, and the engine's own allocation says when to stop. The
  // questions below are asked of gated policies only.
  [[nodiscard]] virtual bool gated() const { return false; }
  [[nodiscard]] virtual bool plans_for_peak(const Request& /*request*/) const { return false; }
  [[nodiscard]] virtual Tokens asked_by(const Request& request) const { return request.need(); }
  // Tokens that all KV may take once the request is in; kNoRoom: it enters an idle engine only.
  static constexpr Tokens kNoRoom = std::numeric_limits<Tokens>::min() / 2;
  [[nodiscard]] virtual Tokens limit_for(const Request& /*request*/) const {
    return scene_.engine.capacity_tokens;
  }
  // Whether kept pauses give way to the head of the queue; `working`: tokens at work.
  [[nodiscard]] virtual bool pauses_yield_to(const Request& /*head*/, Tokens /*working*/) const {
    return true;
  }
  // Whether the KV kept for a paused session gives way to the head of the queue, where pauses do.
  [[nodiscard]] virtual bool yields_to(const Session& /*pause*/, const Request& /*head*/) const {
    return true;
  }

  // --- pauses ---
  [[nodiscard]] virtual bool keeps() const { return false; }  // KV at the end of a turn, at all
  // Whether KV on the host is fetched back into free blocks shortly before a predicted return.
  [[nodiscard]] virtual bool prefetches() const { return false; }
  // Whether kept KV is copied to the host while the link is idle, so that letting it go later is
  // free.
  [[nodiscard]] virtual bool copies_ahead() const { return false; }
  // For a paused session that keeps KV: when its pause begins and whenever `again` has passed.
  [[nodiscard]] virtual Verdict decide(Seconds /*now*/, SessionHandle /*session*/) const {
    return {};
  }
  // Asked in every step: paused sessions whose KV must not be kept any longer.
  [[nodiscard]] virtual std::vector<Overruled> overruled(Seconds /*now*/) const { return {}; }
  // Sessions whose kept KV gives way when an allocation fails, in order.
  [[nodiscard]] virtual std::vector<SessionHandle> release_order(Seconds now) const;

  // --- running ---
  // Puts the running requests in order when memory is short: the last is preempted first.
  [[nodiscard]] virtual bool orders_running() const { return false; }
  virtual void order_running(std::vector<RequestHandle>& /*running*/) const {}

  // --- what happens ---
  virtual void on_arrival(Seconds /*now*/, const Request& /*request*/) {}
  virtual void on_admission(Seconds /*now*/, const Request& /*request*/) {}
  virtual void on_pause(Seconds /*now*/, SessionHandle /*session*/) {}
  virtual void on_end(SessionHandle /*session*/) {}
  // At the beginning of a step. Sessions whose waiting requests have got other keys by it.
  [[nodiscard]] virtual std::vector<SessionHandle> on_step(
      Seconds /*now*/, std::span<const RequestHandle> /*running*/) {
    return {};
  }

 protected:
  // Sessions that keep KV by rising price; those that have already returned come last, youngest
  // first.
  [[nodiscard]] std::vector<SessionHandle> holders_by(
      const std::function<double(const Session&)>& price) const;
  // Running requests by the arrival of their session: the youngest session is preempted first.
  void oldest_session_first(std::vector<RequestHandle>& running) const;

  const Scene& scene_;
};

[[nodiscard]] std::unique_ptr<Rules> make_rules(PolicyName policy, const Scene& scene);

}  // namespace lamps
