#include "agent/engine/ptrace/journal.h"

#include "common/base/check.h"

#include <algorithm>
#include <atomic>

#include <sys/mman.h>
#include <sys/stat.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t magic = 0x4a57444732ull;
constexpr std::size_t first_kept = 128;
constexpr std::size_t most_kept = 64;
constexpr std::size_t first_record = first_kept + most_kept * sizeof(KeptSignal);
constexpr std::uint32_t most_threads = 100'000;

// What is below is on memory (for another process to see) before what follows.
void fence() { std::atomic_signal_fence(std::memory_order_seq_cst); }

}  // namespace

Journal::Journal(UniqueFd memory) : fd_(std::move(memory)) {
  static_assert(sizeof(Header) <= first_kept && first_record % alignof(ThreadRecord) == 0);
  if (!fd_) fd_.reset(check(::memfd_create("godwit-journal", MFD_CLOEXEC), "create a journal"));
  struct stat st{};
  check(::fstat(fd_.get(), &st), "stat the journal");
  map(std::max<std::size_t>(static_cast<std::size_t>(st.st_size), 64 * 1024));
  if (header().magic == 0) {
    header() = Header{};
    header().phase = HoldPhase::idle;
    fence();
    header().magic = magic;
  }
  if (header().magic != magic || header().count > most_threads || header().kept > most_kept ||
      first_record + header().count * sizeof(ThreadRecord) > size_)
    fail(Errc::image_corrupt, "the borrow journal is damaged");
}

Journal::~Journal() {
  if (memory_) ::munmap(memory_, size_);
}

void Journal::map(std::size_t size) {
  check(::ftruncate(fd_.get(), static_cast<off_t>(size)), "grow the journal");
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (at == MAP_FAILED) check(-1, "map the journal");
  if (memory_) ::munmap(memory_, size_);
  memory_ = at;
  size_ = size;
}

ThreadRecord* Journal::records() const {
  return reinterpret_cast<ThreadRecord*>(static_cast<std::byte*>(memory_) + first_record);
}

std::span<ThreadRecord> Journal::threads() { return {records(), header().count}; }

void Journal::begin(pid_t pid, std::uint64_t start_time, bool was_stopped) {
  Header& h = header();
  h.pid = pid;
  h.start_time = start_time;
  h.was_stopped = was_stopped;
  h.count = 0;
  h.kept = 0;
  h.scratch = 0;
  h.syscall_instruction = 0;
  fence();
  h.phase = HoldPhase::stopping;
  fence();
}

void Journal::held(std::uint64_t syscall_instruction) {
  header().syscall_instruction = syscall_instruction;
  fence();
  header().phase = HoldPhase::held;
  fence();
}

ThreadRecord& Journal::add(const ThreadRecord& record) {
  const std::size_t needed = first_record + (header().count + 1) * sizeof(ThreadRecord);
  if (needed > size_) map(size_ * 2);
  ThreadRecord& slot = records()[header().count];
  slot = record;
  fence();
  header().count++;
  fence();
  return slot;
}

std::span<const KeptSignal> Journal::kept() const {
  return {reinterpret_cast<const KeptSignal*>(static_cast<const std::byte*>(memory_) + first_kept), header().kept};
}

void Journal::keep(const KeptSignal& signal) {
  const auto same = [&](const KeptSignal& k) { return k.tid == signal.tid && k.info.number() == signal.info.number(); };
  if (std::ranges::any_of(kept(), same)) return;
  if (header().kept == most_kept)
    fail(Errc::unsupported, "more than {} pending signals that stop or continue it", most_kept);
  reinterpret_cast<KeptSignal*>(static_cast<std::byte*>(memory_) + first_kept)[header().kept] = signal;
  fence();
  header().kept++;
  fence();
}

void Journal::scratch(RemoteAddr at) {
  header().scratch = raw(at);
  fence();
}

void Journal::scratch_gone() { scratch(RemoteAddr{0}); }

void Journal::releasing() {
  fence();
  header().phase = HoldPhase::releasing;
  fence();
}

void Journal::end() {
  fence();
  header().phase = HoldPhase::idle;
  fence();
}

}  // namespace godwit::engine
