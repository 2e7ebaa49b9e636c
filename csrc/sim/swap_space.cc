// SPDX-License-Identifier: Apache-2.0
#include "sim/swap_space.h"

#include <algorithm>
#include <utility>

namespace lamps::sim {

SwapSpace::SwapSpace(const EngineModel& engine, KvCache& kv)
    : kv_(kv), block_seconds_(engine.copy_time(engine.block_tokens)) {}

SwapSpace::Image& SwapSpace::at(SessionHandle session) {
  const auto index = static_cast<std::size_t>(session);
  if (index >= images_.size()) images_.resize(index + 1);
  return images_[index];
}

void SwapSpace::free_room(Image& image) {
  host_blocks_ -= image.blocks;
  image.blocks = 0;
  image.end = 0;
  image.state = State::kNone;
}

void SwapSpace::take_room(SessionHandle session, const KeptBlocks& kept, Blocks blocks,
                          State state) {
  Image& image = at(session);
  image.state = state;
  image.end = kept.end;
  image.blocks = blocks;
  host_blocks_ += blocks;
  stored_ += blocks;
}

void SwapSpace::copy_out(Seconds now, SessionHandle session, const KeptBlocks& kept,
                         Blocks blocks) {
  if (at(session).state == State::kCopying) {
    at(session).state = State::kLeaving;
    out_until_ = ahead_->done_at;
    out_.push_back(*std::exchange(ahead_, std::nullopt));
    return;
  }
  take_room(session, kept, blocks, State::kLeaving);
  const Seconds seconds = static_cast<double>(blocks) * block_seconds_;
  out_until_ = std::max(out_until_, now) + seconds;
  out_.push_back({session, blocks, seconds, out_until_});
  if (ahead_) ahead_->done_at += seconds;  // it stands back meanwhile
}

void SwapSpace::copy_ahead(Seconds now, SessionHandle session, const KeptBlocks& kept,
                           Blocks blocks) {
  take_room(session, kept, blocks, State::kCopying);
  const Seconds seconds = static_cast<double>(blocks) * block_seconds_;
  ahead_ = Job{session, blocks, seconds, std::max(out_until_, now) + seconds};
}

void SwapSpace::copy_in(Seconds now, SessionHandle session, const TurnRequest* request) {
  Image& image = at(session);
  image.state = State::kAwaited;
  image.landing = {};
  image.intact = request != nullptr;
  if (request != nullptr) kv_.attach(image.landing, *request);
  image.landing.tokens = kv_.tokens_in(image.end) + 1;  // a hit never has the last token
  if (!start_landing(now, session)) awaited_.push_back(session);
}

bool SwapSpace::start_landing(Seconds now, SessionHandle session) {
  Image& image = at(session);
  Turn& landing = image.landing;
  const Tokens tokens = kv_.tokens_in(image.intact ? image.end : image.blocks);
  const Blocks hit = image.intact ? std::min(kv_.hit(landing), image.end) : 0;
  if (image.intact ? !kv_.fits(landing, hit, tokens) : !kv_.can_grow(landing, tokens)) return false;
  if (image.intact) {
    kv_.start(landing, hit, tokens);
  } else if (!kv_.grow(landing, tokens)) {
    return false;
  }
  image.state = State::kLoading;
  landing_room_ += kv_.blocks_for(landing.room);
  const Blocks blocks = kv_.blocks_for(tokens) - hit;
  const Seconds seconds = static_cast<double>(blocks) * block_seconds_;
  in_until_ = std::max(in_until_, now) + seconds;
  in_.push_back({session, blocks, seconds, in_until_});
  return true;
}

std::vector<SwapSpace::Done> SwapSpace::poll(Seconds now) {
  std::vector<Done> done;
  for (; !out_.empty() && out_.front().done_at <= now; out_.pop_front()) {
    const Job& job = out_.front();
    if (job.cancelled) continue;
    at(job.session).state = State::kHost;
    done.push_back({job.session, job.blocks, job.seconds, true, false});
  }
  if (ahead_ && ahead_->done_at <= now) {
    const Job job = *std::exchange(ahead_, std::nullopt);
    at(job.session).state = State::kHost;
    done.push_back({job.session, job.blocks, job.seconds, true, true});
  }
  for (; !in_.empty() && in_.front().done_at <= now; in_.pop_front()) {
    const Job& job = in_.front();
    if (!job.cancelled) done.push_back({job.session, job.blocks, job.seconds, false, false});
  }
  for (auto waiting = std::exchange(awaited_, {}); !waiting.empty(); waiting.pop_front()) {
    const SessionHandle session = waiting.front();
    if (at(session).state != State::kAwaited) continue;
    if (!start_landing(now, session)) awaited_.push_back(session);
  }
  return done;
}

KeptBlocks SwapSpace::take_loaded(SessionHandle session) {
  Image& image = at(session);
  image.state = State::kHost;  // until the core drops the copy
  landing_room_ -= kv_.blocks_for(image.landing.room);
  if (image.intact) kv_.commit(image.landing, kv_.tokens_in(image.end));
  return kv_.keep_all(image.landing);
}

void SwapSpace::cancel(std::deque<Job>& jobs, SessionHandle session) {
  for (Job& job : jobs) job.cancelled |= job.session == session;
}

void SwapSpace::call_off(SessionHandle session) {
  if (at(session).state == State::kLeaving) cancel(out_, session);
  if (at(session).state == State::kCopying) ahead_.reset();
}

void SwapSpace::taken_over(SessionHandle session) {
  Image& image = at(session);
  if (image.state == State::kLeaving || image.state == State::kCopying) {
    call_off(session);
    free_room(image);
  } else if (image.state == State::kAwaited) {
    image.state = State::kHost;
  }
}

bool SwapSpace::drop(SessionHandle session, Seconds now) {
  Image& image = at(session);
  if (image.state == State::kNone) return false;
  const bool leaving = image.state == State::kLeaving;
  call_off(session);
  if (image.state == State::kLoading) {
    cancel(in_, session);
    landing_room_ -= kv_.blocks_for(image.landing.room);
    kv_.free(image.landing, now);
  }
  free_room(image);
  return leaving;
}

void SwapSpace::rewritten(SessionHandle session, Blocks end) {
  Image& image = at(session);
  image.end = std::min(image.end, end);
  if (image.state == State::kLoading || image.state == State::kAwaited) image.intact = false;
}

bool SwapSpace::loading(SessionHandle session) const {
  const auto index = static_cast<std::size_t>(session);
  return index < images_.size() && images_[index].state == State::kLoading;
}

Blocks SwapSpace::loadable(SessionHandle session) const {
  const auto index = static_cast<std::size_t>(session);
  if (index >= images_.size()) return 0;
  const Image& image = images_[index];
  return image.state == State::kHost || image.state == State::kAwaited ? image.end : 0;
}

Seconds SwapSpace::load(Blocks blocks, Seconds now) {
  in_until_ = std::max(in_until_, now) + static_cast<double>(blocks) * block_seconds_;
  return in_until_;
}

Turn* SwapSpace::landing(SessionHandle session) {
  return loading(session) ? &at(session).landing : nullptr;
}

Blocks SwapSpace::landing_blocks() const {
  Blocks blocks = 0;
  for (const Image& image : images_) {
    if (image.state != State::kLoading) continue;
    blocks += kv_.blocks_for(image.landing.room) - image.landing.hashed + image.landing.duplicates;
  }
  return blocks;
}

}  // namespace lamps::sim
