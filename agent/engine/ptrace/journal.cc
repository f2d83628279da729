#include "agent/engine/ptrace/journal.h"

#include "common/base/check.h"

#include <algorithm>
#include <atomic>

#include <sys/mman.h>
#include <sys/stat.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t magic = 0x4a57444735ull;
constexpr std::uint32_t most_threads = 100'000;

// What is below is on memory (for another process to see) before what follows.
void fence() { std::atomic_signal_fence(std::memory_order_seq_cst); }

}  // namespace

Journal::Journal(UniqueFd memory) : fd_(std::move(memory)) {
  static_assert(sizeof(Header) <= first_process);
  static_assert(first_kept % alignof(KeptSlot) == 0 && first_aio % alignof(AioSlot) == 0 &&
                first_thread % alignof(ThreadSlot) == 0);
  if (!fd_) fd_.reset(check(::memfd_create("godwit-journal", MFD_CLOEXEC), "create a journal"));
  struct stat st{};
  check(::fstat(fd_.get(), &st), "stat the journal");
  map(std::max<std::size_t>(static_cast<std::size_t>(st.st_size), first_thread + 64 * sizeof(ThreadSlot)));
  if (header().magic == 0) {
    header() = Header{};
    fence();
    header().magic = magic;
  }
  if (!sound()) fail(Errc::image_corrupt, "the borrow journal is damaged");
}

// What is put back by it goes into the processes that it names.
bool Journal::sound() const {
  const Header& h = header();
  if (h.magic != magic || h.threads > most_threads || h.processes > most_processes || h.kept > most_kept ||
      first_thread + h.threads * sizeof(ThreadSlot) > size_)
    return false;
  const auto fits = [](const ProcessSlot& p) {
    return p.phase >= HoldPhase::idle && p.phase <= HoldPhase::releasing && p.pid > 0;
  };
  const auto is_signal = [](const KeptSlot& k) { return k.signal.info.number() > 0 && k.signal.info.number() <= 64; };
  const AioSlot& a = aio();
  if (a.open > 1 || a.current > 1 || a.progress[a.current].unfetched > most_unfetched ||
      (a.ring && (a.head >= a.capacity || a.progress[a.current].seen >= a.capacity)))
    return false;
  return std::all_of(processes(), processes() + h.processes, fits) && std::all_of(kept(), kept() + h.kept, is_signal);
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

std::vector<Journal::Process> Journal::borrowed() const {
  std::vector<Process> all;
  for (std::uint32_t i = 0; i < header().processes; i++)
    if (processes()[i].phase != HoldPhase::idle) all.push_back(Process(const_cast<Journal&>(*this), i));
  return all;
}

Journal::Process Journal::begin(pid_t pid, std::uint64_t start_time, bool was_stopped) {
  Header& h = header();
  if (idle()) {
    h.processes = 0;
    fence();
    h.threads = 0;
    h.kept = 0;
    aio().open = 0;
  }
  if (h.processes == most_processes) fail(Errc::unsupported, "more than {} processes", most_processes);
  processes()[h.processes] = {.phase = HoldPhase::stopping,
                              .pid = pid,
                              .start_time = start_time,
                              .was_stopped = static_cast<std::uint32_t>(was_stopped)};
  fence();
  h.processes++;
  fence();
  return Process(*this, h.processes - 1);
}

void Journal::Process::begin_again(bool was_stopped) {
  Journal& j = *journal_;
  while (j.header().threads > 0 && j.threads()[j.header().threads - 1].process == index_) j.header().threads--;
  fence();
  j.processes()[index_].was_stopped = static_cast<std::uint32_t>(was_stopped);
  fence();
}

void Journal::Process::held(std::uint64_t syscall_instruction) {
  ProcessSlot& slot = journal_->processes()[index_];
  slot.syscall_instruction = syscall_instruction;
  fence();
  slot.phase = HoldPhase::held;
  fence();
}

Journal::Process::Place Journal::Process::add(const ThreadRecord& record) {
  Journal& j = *journal_;
  if (j.header().threads == most_threads) fail(Errc::unsupported, "more than {} threads", most_threads);
  const std::size_t needed = first_thread + (j.header().threads + 1) * sizeof(ThreadSlot);
  if (needed > j.size_) j.map(j.size_ * 2);
  const Place place = j.header().threads;
  j.threads()[place] = {.process = index_, .record = record};
  fence();
  j.header().threads++;
  fence();
  return place;
}

void Journal::Process::borrow(Place place, const Regs& regs, std::uint64_t sigmask,
                              const std::array<std::byte, 128>& affinity) {
  ThreadRecord& record = journal_->threads()[place].record;
  record.regs = regs;
  record.sigmask = sigmask;
  record.affinity = affinity;
  fence();
  record.borrowed = 1;
  fence();
}

std::vector<ThreadRecord> Journal::Process::threads() const {
  std::vector<ThreadRecord> own;
  for (std::uint32_t i = 0; i < journal_->header().threads; i++)
    if (const ThreadSlot& slot = journal_->threads()[i]; slot.process == index_) own.push_back(slot.record);
  return own;
}

std::vector<KeptSignal> Journal::Process::kept() const {
  std::vector<KeptSignal> own;
  for (std::uint32_t i = 0; i < journal_->header().kept; i++)
    if (const KeptSlot& slot = journal_->kept()[i]; slot.process == index_) own.push_back(slot.signal);
  return own;
}

void Journal::Process::keep(const KeptSignal& signal) {
  const auto same = [&](const KeptSignal& k) { return k.tid == signal.tid && k.info.number() == signal.info.number(); };
  if (std::ranges::any_of(kept(), same)) return;
  Header& h = journal_->header();
  if (h.kept == most_kept) fail(Errc::unsupported, "more than {} pending signals that stop or continue it", most_kept);
  journal_->kept()[h.kept] = {.process = index_, .signal = signal};
  fence();
  h.kept++;
  fence();
}

void Journal::Process::scratch(RemoteAddr at) {
  journal_->processes()[index_].scratch = raw(at);
  fence();
}

void Journal::Process::aio_eventfd(int number) {
  AioSlot& slot = journal_->aio();
  if (!slot.open || slot.process != index_) {
    slot.open = 0;
    fence();
    slot.process = index_;
    slot.ring = 0;
  }
  slot.eventfd = number;
  fence();
  slot.open = 1;
  fence();
}

void Journal::Process::aio_begin(std::uint64_t ring, std::uint32_t capacity, std::uint32_t head,
                                 const AioProgress& progress) {
  AioSlot& slot = journal_->aio();
  aio_end();
  slot.progress[slot.current].unfetched = 0;
  slot.capacity = capacity;
  slot.head = head;
  aio_progress(progress);
  slot.ring = ring;
  fence();
}

void Journal::Process::aio_progress(const AioProgress& progress) {
  AioSlot& slot = journal_->aio();
  const std::size_t before = slot.progress[slot.current].unfetched;
  const std::size_t count = std::min(progress.unfetched.size(), most_unfetched);
  std::ranges::copy(progress.unfetched.first(count).subspan(before), journal_->unfetched() + before);
  const std::uint32_t next = slot.current ^ 1;
  slot.progress[next] = {
      .seen = progress.seen, .unfetched = static_cast<std::uint32_t>(count), .batch = progress.batch};
  fence();
  slot.current = next;
  fence();
}

void Journal::Process::aio_end() {
  fence();
  journal_->aio().ring = 0;
  fence();
}

void Journal::Process::aio_gone() {
  fence();
  journal_->aio().open = 0;
  fence();
}

std::optional<AioLook> Journal::Process::aio() const {
  const AioSlot& slot = journal_->aio();
  if (!slot.open || slot.process != index_) return {};
  const auto& progress = slot.progress[slot.current];
  return AioLook{.eventfd = slot.eventfd,
                 .ring = slot.ring,
                 .capacity = slot.capacity,
                 .head = slot.head,
                 .seen = progress.seen,
                 .batch = progress.batch,
                 .unfetched = {journal_->unfetched(), journal_->unfetched() + progress.unfetched}};
}

void Journal::Process::releasing() {
  fence();
  journal_->processes()[index_].phase = HoldPhase::releasing;
  fence();
}

void Journal::Process::end() {
  fence();
  journal_->processes()[index_].phase = HoldPhase::idle;
  fence();
}

HoldPhase Journal::Process::phase() const { return journal_->processes()[index_].phase; }
pid_t Journal::Process::pid() const { return journal_->processes()[index_].pid; }
std::uint64_t Journal::Process::start_time() const { return journal_->processes()[index_].start_time; }
bool Journal::Process::was_stopped() const { return journal_->processes()[index_].was_stopped != 0; }
std::uint64_t Journal::Process::syscall_instruction() const {
  return journal_->processes()[index_].syscall_instruction;
}
RemoteAddr Journal::Process::scratch_address() const { return RemoteAddr{journal_->processes()[index_].scratch}; }

}  // namespace godwit::engine
