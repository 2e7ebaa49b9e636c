// SPDX-License-Identifier: Apache-2.0
#include "sim/block_pool.h"

#include <algorithm>
#include <string>

#include "lamps/errors.h"
#include "sim/slots.h"

namespace lamps::sim {
namespace {

void expect(bool holds, const char* what) {
  if (!holds) throw InvariantViolation(std::string("block pool: ") + what);
}

}  // namespace

BlockPool::BlockPool(Blocks total) : total_(total), free_(total), blank_(total) {}

ChainId BlockPool::open(Blocks base) {
  const ChainId id = take_slot(chains_, idle_chains_);
  Chain& chain = at(id);
  chain.base = chain.cached = base;
  chain.open = true;
  chain.closing = false;
  return id;
}

void BlockPool::close(ChainId id) {
  at(id).closing = true;
  forget_if_done(id);
}

void BlockPool::forget_if_done(ChainId id) {
  Chain& chain = at(id);
  if (!chain.closing || !chain.references.empty() || chain.newest != kNoRun) return;
  chain.open = chain.closing = false;
  idle_chains_.push_back(id);
}

Blocks BlockPool::referenced(ChainId id) const {
  const Chain& chain = at(id);
  return chain.references.empty() ? chain.base : chain.references.front().end;
}

Blocks BlockPool::unique(ChainId id, Blocks end) const {
  const std::vector<Reference>& references = at(id).references;
  if (references.empty() || references[0].end != end || references[0].count > 1) return 0;
  return end - (references.size() > 1 ? references[1].end : at(id).base);
}

void BlockPool::add_reference(Chain& chain, Blocks end) {
  if (end <= chain.base) return;
  const auto place = std::find_if(chain.references.begin(), chain.references.end(),
                                  [=](const Reference& each) { return each.end <= end; });
  if (place != chain.references.end() && place->end == end) {
    ++place->count;
  } else {
    chain.references.insert(place, {end, 1});
  }
}

void BlockPool::drop_reference(Chain& chain, Blocks end) {
  if (end <= chain.base) return;
  const auto place = std::find_if(chain.references.begin(), chain.references.end(),
                                  [=](const Reference& each) { return each.end == end; });
  expect(place != chain.references.end(), "a reference that nobody holds is given back");
  if (--place->count == 0) chain.references.erase(place);
}

void BlockPool::acquire(ChainId id, Blocks end) {
  Chain& chain = at(id);
  const Blocks before = referenced(id);
  add_reference(chain, end);
  if (end <= before) return;
  free_ -= end - before;
  while (chain.newest != kNoRun && run(chain.newest).low < end) {
    Run& lowest = run(chain.newest);
    if (lowest.high > end) {  // the rest keeps its place in the queue
      lowest.low = end;
      break;
    }
    const RunId whole = chain.newest;
    unlink_from_queue(whole);
    unlink_from_chain(whole);
    recycle(whole);
  }
}

Blocks BlockPool::extend(ChainId id, Blocks from, Blocks to) {
  Chain& chain = at(id);
  to = std::max(to, chain.base);
  from = std::max(from, chain.base);
  if (to <= from) return 0;
  drop_reference(chain, from);
  const Blocks others = referenced(id);
  add_reference(chain, to);
  if (chain.newest != kNoRun && run(chain.newest).low < to) {  // older copies
    name_nothing_free(chain);
    chain.cached = to;
  }
  chain.cached = std::max(chain.cached, to);
  return std::max<Blocks>(std::min(to, others) - from, 0);
}

// Its free runs keep their place in the queue and cannot be hit any more.
void BlockPool::name_nothing_free(Chain& chain) {
  while (chain.newest != kNoRun) {
    const RunId nameless = chain.newest;
    unlink_from_chain(nameless);
    run(nameless).chain = kNoChain;
  }
}

void BlockPool::release(ChainId id, Blocks end) { give_back(id, end, false); }
void BlockPool::release_first(ChainId id, Blocks end) { give_back(id, end, true); }

void BlockPool::give_back(ChainId id, Blocks end, bool first) {
  Chain& chain = at(id);
  if (end <= chain.base) return;
  const Blocks before = referenced(id);
  drop_reference(chain, end);
  const Blocks after = referenced(id);
  if (after < before) {
    if (first) {
      name_nothing_free(chain);  // what follows would be left without its beginning
      chain.cached = before;
      prepend(id, after, before);
    } else {
      append(id, after, before);
    }
    free_ += before - after;
  }
  forget_if_done(id);
}

BlockPool::RunId BlockPool::make_run(ChainId chain, Blocks low, Blocks high) {
  const RunId fresh = take_slot(runs_, idle_runs_);
  run(fresh) = {};
  run(fresh).chain = chain;
  run(fresh).low = low;
  run(fresh).high = high;
  return fresh;
}

void BlockPool::append(ChainId id, Blocks low, Blocks high) {
  const RunId fresh = make_run(id, low, high);
  Run& added = run(fresh);
  added.before = last_;
  (last_ == kNoRun ? first_ : run(last_).after) = fresh;
  last_ = fresh;
  if (id != kNoChain) add_to_chain(fresh);
}

void BlockPool::prepend(ChainId id, Blocks low, Blocks high) {
  const RunId fresh = make_run(id, low, high);
  run(fresh).after = first_;
  (first_ == kNoRun ? last_ : run(first_).before) = fresh;
  first_ = fresh;
  add_to_chain(fresh);
}

void BlockPool::add_to_chain(RunId id) {
  Chain& chain = at(run(id).chain);
  run(id).older = chain.newest;
  if (chain.newest != kNoRun) run(chain.newest).newer = id;
  chain.newest = id;
}

Blocks BlockPool::cut(ChainId id, Blocks end) {
  if (at(id).cached <= end) return 0;
  at(id).cached = end;
  for (RunId next = at(id).newest; next != kNoRun;) {
    const RunId here = next;
    next = run(here).older;
    if (run(here).high <= end) continue;
    if (run(here).low >= end) {
      unlink_from_chain(here);
      run(here).chain = kNoChain;
      continue;
    }
    // Split it: its high end is evicted first.
    const RunId nameless = make_run(kNoChain, end, run(here).high);
    const RunId before = run(here).before;
    run(here).high = end;
    run(here).before = nameless;
    run(nameless).after = here;
    run(nameless).before = before;
    (before == kNoRun ? first_ : run(before).after) = nameless;
  }
  const Blocks beyond = std::max<Blocks>(referenced(id) - end, 0);
  while (referenced(id) > end) {
    drop_reference(at(id), referenced(id));
    add_reference(at(id), end);
  }
  return beyond;
}

void BlockPool::unlink_from_queue(RunId id) {
  const Run& gone = run(id);
  (gone.before == kNoRun ? first_ : run(gone.before).after) = gone.after;
  (gone.after == kNoRun ? last_ : run(gone.after).before) = gone.before;
}

void BlockPool::unlink_from_chain(RunId id) {
  const Run& gone = run(id);
  if (gone.chain == kNoChain) return;
  (gone.newer == kNoRun ? at(gone.chain).newest : run(gone.newer).older) = gone.older;
  if (gone.older != kNoRun) run(gone.older).newer = gone.newer;
}

void BlockPool::recycle(RunId id) { idle_runs_.push_back(id); }

void BlockPool::take(Blocks count) {
  expect(count <= free_, "more blocks are taken than are free");
  free_ -= count;
  const Blocks blank = std::min(count, blank_);
  blank_ -= blank;
  for (Blocks left = count - blank; left > 0;) {
    const RunId oldest = first_;
    Run& victim = run(oldest);
    const Blocks evicted = std::min(left, victim.high - victim.low);
    victim.high -= evicted;
    left -= evicted;
    if (victim.chain != kNoChain) at(victim.chain).cached = victim.high;
    if (victim.high > victim.low) break;
    const ChainId chain = victim.chain;
    unlink_from_queue(oldest);
    unlink_from_chain(oldest);
    recycle(oldest);
    if (chain != kNoChain) forget_if_done(chain);
  }
}

void BlockPool::give_back_blank(Blocks n) {
  blank_ += n;
  free_ += n;
}

void BlockPool::give_back_cached(Blocks n) {
  if (n == 0) return;
  append(kNoChain, 0, n);
  free_ += n;
}

void BlockPool::check_invariants(Blocks in_use_elsewhere) const {
  Blocks queued = 0;
  std::vector<Blocks> free_of(chains_.size(), 0);
  RunId before = kNoRun;
  for (RunId id = first_; id != kNoRun; before = id, id = run(id).after) {
    const Run& each = run(id);
    expect(each.before == before, "the free queue is torn");
    expect(each.high > each.low, "an empty run is queued");
    queued += each.high - each.low;
    if (each.chain != kNoChain)
      free_of[static_cast<std::size_t>(each.chain)] += each.high - each.low;
  }
  expect(last_ == before, "the free queue has a wrong end");
  expect(queued + blank_ == free_, "free blocks are miscounted");
  Blocks used = in_use_elsewhere;
  for (std::size_t i = 0; i < chains_.size(); ++i) {
    const Chain& chain = chains_[i];
    if (!chain.open) {
      expect(free_of[i] == 0, "a forgotten chain has free blocks");
      continue;
    }
    const Blocks top = referenced(static_cast<ChainId>(i));
    used += top - chain.base;
    expect(chain.cached - top == free_of[i], "cached blocks of a chain are miscounted");
    Blocks low = top;  // free runs follow the references without a gap
    for (RunId id = chain.newest; id != kNoRun; low = run(id).high, id = run(id).older) {
      expect(run(id).low == low, "the free runs of a chain leave a gap");
    }
  }
  expect(used + free_ == total_, "blocks were lost or made up");
}

}  // namespace lamps::sim
