#include "agent/engine/restore/directory_pages.h"

#include "agent/engine/memory/page_stretches.h"
#include "agent/engine/memory/page_window.h"
#include "agent/engine/resources/descriptor_limit.h"
#include "common/base/check.h"

#include <cerrno>
#include <span>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t most_aside = (1u << 20) / page_size;  // more is placed faster than it is written

std::uint64_t pages_in(image::PageReader& reader) {
  std::uint64_t pages = 0;
  for (const image::PageRun& run : reader.pagemap().runs) pages += run.pages;
  return pages;
}

// A table that several threads share grows only when an RCU grace period has passed, which takes some milliseconds.
void make_room_for_descriptors(std::size_t processes) {
  constexpr std::size_t of_each = 8, others = 64;
  UniqueFd(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, processes * of_each + others));  // it may be more than we may have
}

}  // namespace

image::PageReader DirectoryPages::reader(image::Kind kind, std::uint64_t id) const {
  return {directory_, kind, id, frees_ ? image::PagesAccess::punch : image::PagesAccess::read};
}

void DirectoryPages::begin_aside(std::size_t processes) {
  if (frees_) return;  // who is told is the caller's
  resources::raise_descriptor_limit();
  make_room_for_descriptors(processes);
  second_.emplace();
}

void DirectoryPages::fill(pid_t pid, AddressSpace& memory) {
  if (const auto begun = aside_.extract(pid)) {
    pages_ += result(pid, begun.mapped());
    return;
  }
  if (!begun_.insert(pid).second) return;
  image::PageReader pages = reader(image::Kind::pagemap, static_cast<std::uint64_t>(pid));
  pages_ += read(pages, pid, memory, room_);
}

void DirectoryPages::fill_aside(pid_t pid, AddressSpace& memory) {
  if (!second_ || begun_.contains(pid)) return;
  const auto id = static_cast<std::uint64_t>(pid);
  {
    image::PageReader pages = reader(image::Kind::pagemap, id);
    if (pages_in(pages) > most_aside) return;
  }
  begun_.insert(pid);
  memory.fill_without_calls();
  // What reads has descriptors, and there are hundreds of processes: it is made when it is their turn.
  std::future<std::uint64_t> filled = second_->run([this, pid, id, &memory]() -> std::uint64_t {
    if (abandoned_) return 0;
    image::PageReader pages = reader(image::Kind::pagemap, id);
    return read(pages, pid, memory, room_aside_);
  });
  aside_.emplace(pid, Aside{memory, std::move(filled)});
}

// Where only the tracer itself may write to memory that the task may not write to
// (proc_mem.force_override=ptrace, 6.12+), it begins anew.
std::uint64_t DirectoryPages::result(pid_t pid, Aside& aside) {
  try {
    return aside.pages.get();
  } catch (const Error& e) {
    if (e.sys_errno() != EIO) throw;
  }
  image::PageReader pages = reader(image::Kind::pagemap, static_cast<std::uint64_t>(pid));
  return read(pages, pid, aside.memory, room_);
}

void DirectoryPages::fill(std::uint64_t shmid, RestoredSegments& segments) {
  image::PageReader pages = reader(image::Kind::pagemap_shmem, shmid);
  pages_ += read(
      pages, image::file_name(image::Kind::pagemap_shmem, shmid), false, room_,
      [&](std::span<const pagewire::Run> runs, std::span<const std::byte> data) { segments.fill(shmid, runs, data); });
}

std::uint64_t DirectoryPages::finish() {
  for (auto& [pid, aside] : aside_) pages_ += result(pid, aside);
  aside_.clear();
  second_.reset();
  return pages_;
}

std::uint64_t DirectoryPages::read(image::PageReader& reader, pid_t pid, AddressSpace& memory, Buffer& room) const {
  return read(reader, image::file_name(image::Kind::pagemap, static_cast<std::uint64_t>(pid)), memory.compares(), room,
              [&](std::span<const pagewire::Run> runs, std::span<const std::byte> data) { memory.fill(runs, data); });
}

std::uint64_t DirectoryPages::read(image::PageReader& reader, const std::string& name, bool compared, Buffer& room,
                                   const Put& put) const {
  std::uint64_t total = 0;
  PageStretches stretches(reader);
  for (auto parts = stretches.next(); !parts.empty(); parts = stretches.next()) {  // maybe a million runs
    const image::PageSource& first = parts.front();
    const std::size_t length =
        static_cast<std::size_t>(parts.back().offset - first.offset) + parts.back().pages * page_size;
    const PageWindow window =
        compared ? PageWindow(first.fd, first.offset, length, room) : PageWindow(first.fd, first.offset, length);
    for (const image::PageSource& part : parts) {
      const Doing doing("{} at offset {}", name, part.record_at);
      const pagewire::Run run{part.vaddr, part.pages};
      put(std::span(&run, 1),
          window.bytes().subspan(static_cast<std::size_t>(part.offset - first.offset), part.pages * page_size));
      total += part.pages;
    }
    if (!frees_) continue;
    frees_(first.depth);
    check(::fallocate(first.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first.offset, static_cast<off_t>(length)),
          "free pages that have been read");
  }
  return total;
}

}  // namespace godwit::engine
