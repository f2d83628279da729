#include "agent/engine/memory/aio_requests.h"

#include "agent/engine/memory/aio_probe.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <ranges>
#include <string_view>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <sys/syscall.h>

namespace godwit::engine {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t most_unfetched = 1024;
constexpr auto patience = 20ms;

// "0-3,8-11\n"
std::vector<std::uint32_t> parse_processors(std::string_view list) {
  std::vector<std::uint32_t> all;
  for (const auto part : list | std::views::split(',')) {
    std::uint32_t first = 0, last = 0;
    const char* const end = part.data() + part.size();
    const auto [next, error] = std::from_chars(part.data(), end, first);
    last = first;
    if (error != std::errc() || (next != end && *next == '-' && std::from_chars(next + 1, end, last).ec != std::errc()))
      fail(Errc::internal, "no list of processors: {}", list);
    for (std::uint32_t cpu = first; cpu <= last; cpu++) all.push_back(cpu);
  }
  return all;
}

Processors find_processors() {
  return {
      .possible = static_cast<std::uint32_t>(parse_processors(read_file("/sys/devices/system/cpu/possible")).size()),
      .online = parse_processors(read_file("/sys/devices/system/cpu/online"))};
}

UniqueFd open_memory(pid_t pid) { return open_file(fmt::format("/proc/{}/mem", pid), O_RDWR); }

int lowest_free_descriptor(pid_t pid) {
  int free = 0;
  for (const int fd : proc::Reader(pid).fds())
    if (fd == free) free++;
  return free;
}

bool is_eventfd(pid_t pid, int fd) {
  const std::vector<int> fds = proc::Reader(pid).fds();
  return std::ranges::binary_search(fds, fd) && proc::Reader(pid).fd_link(fd) == "anon_inode:[eventfd]";
}

// An eventfd of ours in a process that is held. Its number is in the journal before it is there.
class JournaledBlanks {
 public:
  explicit JournaledBlanks(Hold& hold) : journal_(hold.journal()) {
    const RemoteAddr scratch = hold.scratch();
    journal_.aio_eventfd(lowest_free_descriptor(hold.pid()));
    blanks_.emplace(hold.leader(), scratch);
    journal_.aio_eventfd(blanks_->eventfd());  // another one, if somebody who runs has the same table
  }
  ~JournaledBlanks() {
    blanks_.reset();
    journal_.aio_gone();
  }
  JournaledBlanks(const JournaledBlanks&) = delete;
  JournaledBlanks& operator=(const JournaledBlanks&) = delete;

  const BlankRequests& get() const { return *blanks_; }

 private:
  Journal::Process& journal_;
  std::optional<BlankRequests> blanks_;
};

void require_own(Hold& hold, const AioRing& ring, const proc::Vma& vma) {
  if (!ring.valid(vma.size())) fail(Errc::refused, "its format is not known, or a part of it has been unmapped");
  if (vma.prot != (PROT_READ | PROT_WRITE)) fail(Errc::refused, "a ring with another protection is not carried");
  const long known = hold.leader().attempt(SYS_io_submit, vma.start, 0, 0);
  if (known == -EINVAL)  // after a fork the mapping is there, but not the context
    throw Error(Errc::refused, "its context is another process's", "the program must unmap it");
  RemoteSyscalls::checked("look for an AIO context", known);
}

std::optional<Error> look_into(Hold& hold, const BlankRequests& blanks, int file, const Processors& processors,
                               const proc::Vma& vma) {
  const AioRing ring = read_aio_ring(file, vma.start);
  require_own(hold, ring, vma);
  if (ring.unfetched() > most_unfetched)
    return Error(Errc::busy, fmt::format("{} completed requests have not been fetched", ring.unfetched()),
                 "try again when the program has fetched them");
  AioProbe probe(hold.journal(), blanks, file, vma.start, ring);
  const bool idle = probe.idle(processors);
  hold.journal().aio_end();
  if (probe.disturbed()) throw disturbed_by_stop(hold.pid());
  if (idle) return {};
  if (probe.confined())
    return Error(
        Errc::unsupported,
        "requests are in flight, or room for some is set aside at CPUs that are not in its cpuset: nobody can tell",
        "let it run on all CPUs for the time of the freeze");
  return Error(Errc::busy, "requests are in flight, which cannot be moved", "try again when they are done");
}

void finish(Journal::Process& journal, RemoteSyscalls& leader, const AioLook& left) {
  if (!is_eventfd(journal.pid(), left.eventfd)) return;
  const BlankRequests blanks(leader, journal.scratch_address(), left.eventfd);
  if (!left.ring) return;
  Doing doing("the AIO ring at {:#x}", left.ring);
  const UniqueFd file = open_memory(journal.pid());
  AioProbe(journal, blanks, file.get(), left).finish();
}

}  // namespace

void refuse_strange_aio_rings(Hold& hold) {
  if (std::ranges::none_of(hold.maps(), is_aio_ring)) return;
  const UniqueFd file = open_memory(hold.pid());
  for (const proc::Vma& vma : hold.maps()) {
    if (!is_aio_ring(vma)) continue;
    Doing doing("the AIO ring at {:#x}", vma.start);
    require_own(hold, read_aio_ring(file.get(), vma.start), vma);
  }
}

std::optional<Error> find_aio_requests(Hold& hold) {
  if (std::ranges::none_of(hold.maps(), is_aio_ring)) return {};
  const UniqueFd file = open_memory(hold.pid());
  const Processors processors = find_processors();
  const JournaledBlanks blanks(hold);
  const std::uint64_t deadline =
      monotonic_ns() + static_cast<std::uint64_t>(std::chrono::nanoseconds(patience).count());
  for (const proc::Vma& vma : hold.maps()) {
    if (!is_aio_ring(vma)) continue;
    Doing doing("the AIO ring at {:#x}", vma.start);
    while (std::optional<Error> found = look_into(hold, blanks.get(), file.get(), processors, vma)) {
      if (monotonic_ns() > deadline) return found;
      std::this_thread::sleep_for(1ms);
    }
  }
  return {};
}

void refuse_aio_requests(Hold& hold) {
  if (const std::optional<Error> found = find_aio_requests(hold)) throw *found;
}

void finish_aio_look(Journal::Process& journal, RemoteSyscalls& leader) {
  const std::optional<AioLook> left = journal.aio();
  if (!left) return;
  try {
    finish(journal, leader, *left);
  } catch (const Error& e) {
    if (e.errc() == Errc::target_gone) throw;
    log::error("aio.not_put_back", {{"pid", journal.pid()}, {"events", left->unfetched.size()}, {"error", e.what()}});
  }
  journal.aio_gone();
}

}  // namespace godwit::engine
