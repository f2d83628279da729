#include "agent/engine/memory/aio_probe.h"

#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/base/log.h"

#include <algorithm>
#include <span>

#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

constexpr unsigned most_rounds = 16;

std::vector<std::byte> affinity_of(pid_t tid) {
  std::vector<std::byte> mask(1024);  // with less room than for all that there may be, the kernel says nothing
  mask.resize(static_cast<std::size_t>(
      check(::syscall(SYS_sched_getaffinity, tid, mask.size(), mask.data()), "read the affinity of thread {}", tid)));
  return mask;
}

}  // namespace

AioProbe::AioProbe(Journal::Process& journal, const BlankRequests& blanks, int file, std::uint64_t address,
                   const AioRing& ring)
    : journal_(journal),
      blanks_(blanks),
      file_(file),
      address_(address),
      ring_(ring),
      head_(ring.head),
      affinity_(affinity_of(journal.pid())),
      seen_(ring.tail) {
  for (std::uint32_t i = ring_.head; i != ring_.tail; i = (i + 1) % ring_.capacity) unfetched_.push_back(event(i));
  journal_.aio_begin(address, ring_.capacity, head_, now());
}

AioProbe::AioProbe(Journal::Process& journal, const BlankRequests& blanks, int file, const AioLook& left)
    : journal_(journal),
      blanks_(blanks),
      file_(file),
      address_(left.ring),
      ring_(read_aio_ring(file, left.ring)),
      head_(left.head),
      affinity_(affinity_of(journal.pid())),
      seen_(left.seen),
      batch_(left.batch),
      point_("engine.recover.aio"),
      unfetched_(left.unfetched) {
  if (ring_.capacity != left.capacity || ring_.tail >= ring_.capacity)
    fail(Errc::refused, "somebody else has written into it");
  take_over();
}

void AioProbe::finish() {
  come_round();
  journal_.aio_end();
}

// What the last batch of an engine that has died has posted. If that is as much as there is room for, or more, all of
// the ring is new, and else what is behind the tail that was seen.
void AioProbe::take_over() {
  const std::uint32_t behind = ring_.distance(seen_, ring_.tail);
  bool all = false;
  for (std::uint32_t i = behind; i < ring_.capacity && !all; i++) {
    const io_event e = event((seen_ + i) % ring_.capacity);
    all = blanks_.posted(e) && e.data == batch_;
  }
  if (all)
    keep_others(ring_.tail, ring_.capacity);
  else
    keep_others(seen_, behind);
  note(ring_.tail);
}

io_event AioProbe::event(std::uint32_t index) const {
  io_event e{};
  pread_exact(file_, std::as_writable_bytes(std::span(&e, 1)),
              static_cast<off_t>(address_ + sizeof(AioRing) + index * sizeof e));
  return e;
}

// Returns the moves.
std::vector<std::size_t> AioProbe::visit_others(BlankBatch& batch, const Processors& processors,
                                                std::uint32_t set_aside) const {
  Batch& calls = batch.batch();
  std::vector<std::size_t> moves;
  for (const std::uint32_t cpu : processors.online) {
    std::vector<std::byte> one(cpu / 64 * 8 + 8);
    one[cpu / 8] = std::byte{1} << (cpu % 8);
    moves.push_back(calls.attempt("move to another CPU", SYS_sched_setaffinity, 0, one.size(), calls.put_bytes(one)));
    batch.submit(2 * set_aside);
  }
  move_back(calls);
  return moves;
}

void AioProbe::move_back(Batch& calls) const {
  calls.attempt("put the affinity back", SYS_sched_setaffinity, 0, affinity_.size(), calls.put_bytes(affinity_));
}

// Nothing of ours is left, and nothing is missing, whatever happens.
bool AioProbe::pass(const Processors& processors, bool everywhere) {
  try {
    const bool all = fill_up(processors, everywhere);
    put_back();
    return all;
  } catch (...) {
    clear();
    throw;
  }
}

// Places are given out `set_aside` at once; what is left over in the end never is.
bool AioProbe::fill_up(const Processors& processors, bool everywhere) {
  const std::uint32_t set_aside = std::max(1u, (ring_.capacity - 1) / (4 * processors.possible));
  const std::uint32_t given_out = (ring_.capacity - 1) / set_aside * set_aside;
  if (unfetched_.size() > given_out) fail(Errc::refused, "it has more events than its context has places");
  const std::uint32_t places = given_out - static_cast<std::uint32_t>(unfetched_.size());
  BlankBatch batch(blanks_, RemoteAddr{address_}, ring_.capacity, batch_);
  batch.submit(places);
  std::vector<std::size_t> moves;
  if (everywhere) moves = visit_others(batch, processors, set_aside);
  const std::size_t filling = batch.submits();
  batch.fetch();
  batch.submit(ring_.capacity - places);
  batch.fetch();
  posted_ = 0;
  run(batch);
  confined_ = std::ranges::any_of(moves, [&](std::size_t move) { return batch.batch().result(move) < 0; });
  const bool all = batch.submitted(filling) == places;
  if (!all || posted_ != ring_.capacity) go_round();
  return all;
}

// A failure is looked at when it is known what is where.
void AioProbe::run(BlankBatch& batch) {
  if (batch.run_disturbed()) disturbed_ = true;
  if (!point_.empty()) fault::point(point_);
  absorb(batch);
  batch.check();
}

// What was posted since the last look: ours, and what completed meanwhile.
void AioProbe::absorb(const BlankBatch& batch) {
  const std::uint32_t submitted = batch.submitted();
  posted_ += submitted;
  const std::uint32_t tail = read_aio_ring(file_, address_).tail;
  const std::uint32_t count = submitted + ring_.distance((seen_ + submitted) % ring_.capacity, tail);
  if (count != submitted) keep_others(seen_, count);
  note(tail);
}

void AioProbe::keep_others(std::uint32_t from, std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; i++)
    if (const io_event e = event((from + i) % ring_.capacity); !blanks_.posted(e)) unfetched_.push_back(e);
}

void AioProbe::note(std::uint32_t tail) {
  seen_ = tail;
  batch_++;
  journal_.aio_progress(now());
}

void AioProbe::post(std::uint32_t count) {
  if (count == 0) return;
  BlankBatch batch(blanks_, RemoteAddr{address_}, ring_.capacity, batch_);
  batch.submit(count);
  batch.fetch();
  run(batch);
}

// A library that reads the ring itself may stand between two looks at it: all has to be where it was. Events that are
// put back take up places only if as many were posted since the kernel last counted those that are free, which it does
// whenever one is posted. So the last ones are as many as that.
void AioProbe::go_round() {
  for (unsigned i = 0; i < most_rounds; i++) {
    const auto last = static_cast<std::uint32_t>(unfetched_.size());
    post(ring_.distance((posted_ + last) % ring_.capacity, 0));
    if ((posted_ + last) % ring_.capacity != 0) continue;
    post(last);
    if (posted_ % ring_.capacity == 0 && unfetched_.size() == last) return;
  }
}

void AioProbe::clear() noexcept {
  try {
    point_ = {};
    BlankBatch batch(blanks_, RemoteAddr{address_}, ring_.capacity, batch_);
    move_back(batch.batch());
    batch.fetch();
    run(batch);
    come_round();
  } catch (const std::exception& e) {
    log::error("aio.not_put_back", {{"ring", address_}, {"events", unfetched_.size()}, {"error", e.what()}});
  }
}

void AioProbe::come_round() {
  posted_ = ring_.distance((head_ + static_cast<std::uint32_t>(unfetched_.size())) % ring_.capacity, seen_);
  go_round();
  put_back();
}

void AioProbe::put_back() {
  const auto count = static_cast<std::uint32_t>(unfetched_.size());
  const std::uint32_t head = ring_.distance(count, seen_);
  for (std::uint32_t i = 0; i < count; i++)
    pwrite_all(file_, std::as_bytes(std::span(&unfetched_[i], 1)),
               static_cast<off_t>(address_ + sizeof(AioRing) + (head + i) % ring_.capacity * sizeof(io_event)));
  pwrite_all(file_, std::as_bytes(std::span(&head, 1)), static_cast<off_t>(address_ + offsetof(AioRing, head)));
}

}  // namespace godwit::engine
