// SPDX-License-Identifier: Apache-2.0
#include "sim/swap_space.h"

#include <algorithm>
#include <utility>

#include "lamps/errors.h"

namespace lamps::sim {

SwapSpace::SwapSpace(const EngineModel& engine, KvCache& kv)
    : kv_(kv),
      block_seconds_(engine.copy_time(engine.block_tokens)),
      capacity_(engine.host_tokens / engine.block_tokens) {}

SwapSpace::Image& SwapSpace::at(SessionHandle session) {
  const auto index = static_cast<std::size_t>(session);
  if (index >= images_.size()) images_.resize(index + 1);
  return images_[index];
}

const SwapSpace::Image* SwapSpace::find(SessionHandle session) const {
  const auto index = static_cast<std::size_t>(session);
  return index < images_.size() ? &images_[index] : nullptr;
}

// --- room ---

void SwapSpace::make_spare(SessionHandle session) {
  Image& image = at(session);
  image.state = State::kElsewhere;
  claim(image);
  if (image.rows == 0 || image.storing > 0) return;
  image.spare = ++uses_;
  spare_.emplace(image.spare, session);
}

void SwapSpace::claim(Image& image) {
  if (image.spare > 0) spare_.erase(std::exchange(image.spare, 0));
}

void SwapSpace::evict(SessionHandle session) {
  Image& image = at(session);
  claim(image);
  rows_ -= std::exchange(image.rows, 0);
  image.there = image.end = 0;
}

// What the core counts on is not there.
void SwapSpace::lose(SessionHandle session) {
  make_spare(session);
  told_.push_back({session, What::kLost});
}

// Nobody gives way unless it is enough, but for spare images.
bool SwapSpace::make_room(Seconds now, SessionHandle session, Blocks blocks) {
  for (auto next = spare_.begin(); next != spare_.end() && capacity_ - rows_ < blocks;) {
    const SessionHandle oldest = (next++)->second;
    if (at(oldest).read_until <= now) evict(oldest);
  }
  if (capacity_ - rows_ >= blocks) return true;
  std::vector<std::pair<std::int64_t, SessionHandle>> idle;
  Blocks reachable = capacity_ - rows_;
  for (std::size_t i = 0; i < images_.size(); ++i) {
    const Image& image = images_[i];
    const auto each = static_cast<SessionHandle>(i);
    const bool at_rest = image.state == State::kHost || image.state == State::kAwaited;
    if (each == session || !at_rest || image.rows == 0) continue;
    idle.emplace_back(image.used, each);
    reachable += image.rows;
  }
  if (reachable < blocks) return false;
  std::sort(idle.begin(), idle.end());
  for (const auto& [used, each] : idle) {
    if (capacity_ - rows_ >= blocks) break;
    evict(each);
    lose(each);
  }
  return true;
}

// --- copies out ---

// Blocks to copy, for which there is room now; 0: none, and the core will be told why.
Blocks SwapSpace::begin(Seconds now, SessionHandle session, const KeptBlocks& kept, Blocks blocks) {
  Image& image = at(session);
  call_off_store(session);
  claim(image);
  image.blocks = blocks;
  image.there = std::min(image.there, kept.end);
  const Blocks fresh = std::clamp<Blocks>(kept.end - image.there, 0, blocks);
  if (fresh > 0 && !make_room(now, session, fresh)) {
    lose(session);
    return 0;
  }
  image.end = kept.end;
  image.used = ++uses_;
  image.rows += fresh;
  image.storing = fresh;
  rows_ += fresh;
  stored_ += fresh;
  if (fresh == 0) image.state = State::kHost;
  return fresh;
}

bool SwapSpace::copy_out(Seconds now, SessionHandle session, const KeptBlocks& kept,
                         Blocks blocks) {
  if (at(session).state == State::kCopying) {
    at(session).state = State::kLeaving;
    return true;
  }
  const Blocks fresh = begin(now, session, kept, blocks);
  if (fresh == 0) {
    if (at(session).state == State::kHost) told_.push_back({session, What::kOut});
    return false;
  }
  at(session).state = State::kLeaving;
  const Seconds seconds = static_cast<double>(fresh) * block_seconds_;
  out_until_ = std::max(out_until_, now) + seconds;
  out_.push_back({session, fresh, seconds, out_until_});
  for (Job& job : ahead_) job.done_at += seconds;  // they stand back meanwhile
  return true;
}

void SwapSpace::copy_ahead(Seconds now, SessionHandle session, const KeptBlocks& kept,
                           Blocks blocks) {
  const Blocks fresh = begin(now, session, kept, blocks);
  if (fresh == 0) {
    if (at(session).state == State::kHost) told_.push_back({session, What::kAhead});
    return;
  }
  at(session).state = State::kCopying;
  const Seconds seconds = static_cast<double>(fresh) * block_seconds_;
  const Seconds after = ahead_.empty() ? out_until_ : std::max(out_until_, ahead_.back().done_at);
  ahead_.push_back({session, fresh, seconds, std::max(after, now) + seconds});
}

void SwapSpace::call_off_store(SessionHandle session) {
  Image& image = at(session);
  if (image.storing == 0) return;
  for (std::deque<Job>* jobs : {&out_, &ahead_}) {
    for (Job& job : *jobs) job.cancelled |= job.session == session;
  }
  image.rows -= image.storing;
  rows_ -= std::exchange(image.storing, 0);
  image.end = image.there;
}

void SwapSpace::end_store(const Job& job, std::vector<Done>& done) {
  if (job.cancelled) return;
  Image& image = at(job.session);
  image.storing = 0;
  image.there = image.end;
  What what = image.state == State::kCopying ? What::kAhead : What::kOut;
  if (image.state == State::kElsewhere) {
    what = What::kUnused;
    make_spare(job.session);
  } else {
    image.state = State::kHost;
  }
  done.push_back({job.session, what, job.blocks, job.seconds});
}

// --- copies in ---

void SwapSpace::copy_in(Seconds now, SessionHandle session, const TurnRequest* request) {
  Image& image = at(session);
  if (image.state != State::kHost) return;  // lost meanwhile: the core has been told
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
  image.used = ++uses_;
  landing_room_ += kv_.blocks_for(landing.room);
  const Blocks blocks = kv_.blocks_for(tokens) - hit;
  const Seconds seconds = static_cast<double>(blocks) * block_seconds_;
  in_until_ = std::max(in_until_, now) + seconds;
  in_.push_back({session, blocks, seconds, in_until_});
  return true;
}

std::vector<SwapSpace::Done> SwapSpace::poll(Seconds now) {
  std::vector<Done> done = std::exchange(told_, {});
  for (std::deque<Job>* jobs : {&out_, &ahead_}) {
    for (; !jobs->empty() && jobs->front().done_at <= now; jobs->pop_front()) {
      end_store(jobs->front(), done);
    }
  }
  for (; !in_.empty() && in_.front().done_at <= now; in_.pop_front()) {
    const Job& job = in_.front();
    if (!job.cancelled) done.push_back({job.session, What::kIn, job.blocks, job.seconds});
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
  image.state = State::kHost;
  landing_room_ -= kv_.blocks_for(image.landing.room);
  if (image.intact) kv_.commit(image.landing, kv_.tokens_in(image.end));
  return kv_.keep_all(image.landing);
}

// --- what the core does not count on any more ---

void SwapSpace::taken_over(SessionHandle session) {
  make_spare(session);
  std::erase_if(told_, [=](const Done& each) { return each.session == session; });
}

bool SwapSpace::drop(SessionHandle session, Seconds now) {
  Image& image = at(session);
  const State state = image.state;
  if (state == State::kElsewhere) return false;
  // Its blocks are about to be used again, so what has not been read is lost.
  if (state == State::kLeaving || state == State::kCopying) call_off_store(session);
  if (state == State::kLoading) {
    for (Job& job : in_) job.cancelled |= job.session == session;
    landing_room_ -= kv_.blocks_for(image.landing.room);
    kv_.free(image.landing, now);
  }
  make_spare(session);
  return state == State::kLeaving;
}

void SwapSpace::forget(SessionHandle session, Seconds now) {
  (void)drop(session, now);
  taken_over(session);
  call_off_store(session);
  evict(session);
  at(session) = {};
}

void SwapSpace::rewritten(SessionHandle session, Blocks end) {
  Image& image = at(session);
  image.there = std::min(image.there, end);
  image.end = std::min(image.end, end);
  if (image.state == State::kLoading || image.state == State::kAwaited) image.intact = false;
}

// --- questions ---

bool SwapSpace::on_host(SessionHandle session) const {
  const Image* image = find(session);
  return image != nullptr && image->state == State::kHost;
}

bool SwapSpace::loading(SessionHandle session) const {
  const Image* image = find(session);
  return image != nullptr && image->state == State::kLoading;
}

Blocks SwapSpace::loadable(SessionHandle session) const {
  const Image* image = find(session);
  return image == nullptr ? 0 : image->there;
}

Seconds SwapSpace::load(SessionHandle session, Blocks blocks, Seconds now) {
  in_until_ = std::max(in_until_, now) + static_cast<double>(blocks) * block_seconds_;
  at(session).used = ++uses_;
  at(session).read_until = in_until_;
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

void SwapSpace::check_invariants() const {
  Blocks rows = 0;
  std::size_t spare = 0;
  for (const Image& image : images_) {
    rows += image.rows;
    spare += image.spare > 0 ? 1 : 0;
    const bool at_rest = image.state == State::kElsewhere && image.storing == 0 && image.rows > 0;
    if (at_rest != (image.spare > 0)) {
      throw InvariantViolation("swap space: spare images are listed wrongly");
    }
  }
  if (rows != rows_ || rows > capacity_ || spare != spare_.size()) {
    throw InvariantViolation("swap space: rows are miscounted, or more than there are");
  }
}

}  // namespace lamps::sim
