// SPDX-License-Identifier: Apache-2.0
#include "swap/mover.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <utility>

#include "lamps/errors.h"

namespace lamps::swap {
namespace {

void require_below(const char* name, std::span<const BlockId> ids, std::int64_t limit) {
  const auto last = static_cast<std::uint32_t>(
      std::min<std::int64_t>(limit - 1, std::numeric_limits<BlockId>::max()));
  std::uint32_t signs = 0;  // a sign bit is set by a negative id, and by one beyond the last
  for (const BlockId id : ids) {
    const auto value = static_cast<std::uint32_t>(id);
    signs |= value | (last - value);
  }
  if (signs >> 31 == 0) return;
  const auto wrong =
      std::find_if(ids.begin(), ids.end(), [&](BlockId id) { return id < 0 || id >= limit; });
  throw InvalidOption(std::string(name) + " = " + std::to_string(*wrong) +
                      ": expected one in [0, " + std::to_string(limit) + ")");
}

Bytes host_bytes(const Layout& layout, Row rows) {
  require_in_range("host rows", static_cast<double>(rows), 1,
                   0x1p62 / static_cast<double>(layout.row_bytes()));
  return rows * layout.row_bytes();
}

}  // namespace

Mover::Mover(const Layout& device, std::unique_ptr<Backend> backend, const MoverOptions& options,
             Clock clock)
    : clock_(std::move(clock)),
      host_(host_bytes(device, options.host_rows)),
      checksums_(options.checksums ? static_cast<std::size_t>(options.host_rows) : 0),
      rows_{host_.base(), options.host_rows, options.checksums ? checksums_.data() : nullptr},
      calibration_(options.calibration),
      backend_(std::move(backend)),
      planner_(device) {
  backend_->attach(host_.base(), host_.bytes());
  thread_ = std::thread([this] { run(); });
}

Mover::~Mover() { stop(); }

void Mover::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Mover::validate(const Job& job) const {
  const Order& order = job.order;
  require_in_range("deadline", job.deadline, -kForever, kForever);  // not NaN, which has no order
  require_in_range("job", static_cast<double>(order.job), 1, 0x1p53);
  if (order.blocks.empty() || order.blocks.size() != order.slots.size()) {
    throw InvalidOption("job of " + std::to_string(order.blocks.size()) + " blocks and " +
                        std::to_string(order.slots.size()) +
                        " slots: expected as many of both, at least one");
  }
  require_below("block", order.blocks, planner_.layout().blocks());
  std::size_t covered = 0;
  for (const Piece& piece : order.pieces) {
    const Extent& extent = piece.extent;
    const bool inside = extent.first >= 0 && extent.rows >= 1 && extent.rows <= rows_.rows &&
                        extent.first <= rows_.rows - extent.rows;
    const auto count = static_cast<std::size_t>(std::max(piece.count, 0));
    if (!inside || count == 0 || count > order.slots.size() - covered) {
      throw InvalidOption("piece of " + std::to_string(piece.count) + " blocks in rows " +
                          std::to_string(extent.first) + " + " + std::to_string(extent.rows) +
                          ": expected one or more blocks that are left, and rows of " +
                          std::to_string(rows_.rows));
    }
    require_below("slot", std::span(order.slots).subspan(covered, count), extent.rows);
    covered += count;
  }
  if (covered != order.slots.size()) {
    throw InvalidOption("pieces for " + std::to_string(covered) + " blocks: expected " +
                        std::to_string(order.slots.size()));
  }
}

void Mover::submit(Job job) {
  validate(job);
  const Seconds now = clock_();
  const std::lock_guard lock(mutex_);
  const JobId id = job.order.job;
  if (open_.contains(id)) {
    throw UnknownHandle("job " + std::to_string(id) + " is under way: expected a new one");
  }
  if (stop_) {
    const Completion cancelled{.job = id,
                               .direction = job.order.direction,
                               .outcome = Outcome::kCancelled,
                               .queued = now,
                               .ended = now};
    completions_.push_back(cancelled);
    something_completed_.store(true, std::memory_order_release);
    return;
  }
  const Mark mark = job.after_stream ? backend_->mark(*job.after_stream) : kNoMark;
  inbox_.push_back(std::make_unique<Transfer>(std::move(job), mark, ++sequence_, now));
  open_.insert(id);
  if (std::exchange(asleep_, false)) wake_.notify_one();
}

bool Mover::cancel(JobId job) {
  const std::lock_guard lock(mutex_);
  if (!open_.contains(job)) return false;
  to_cancel_.push_back(job);
  return true;
}

void Mover::poll(std::vector<Completion>& completions) {
  if (!something_completed_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(mutex_);
  completions.insert(completions.end(), completions_.begin(), completions_.end());
  completions_.clear();
  something_completed_.store(false, std::memory_order_release);
}

bool Mover::wait_idle(Seconds timeout) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, std::chrono::duration<double>(timeout),
                        [this] { return open_.empty(); });
}

}  // namespace lamps::swap
