#include "agent/engine/memory/process_reader.h"

#include "common/base/check.h"

#include <algorithm>

#include <sys/uio.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t mapped_exclusively = 1ull << 56;  // in /proc/PID/pagemap, 4.2+
// Runs with fewer pages between them are looked up together: that many entries cost less than another call.
constexpr std::uint64_t worth_a_call = 32;

std::uint64_t end_of(const pagewire::Run& r) { return r.address + r.pages * page_size; }

}  // namespace

void ProcessReader::read(std::vector<pagewire::Run>& runs, std::span<std::byte> into) {
  if (pagemap_ >= 0) look_up(runs);
  // Else something in there may not be read by the target itself (PROT_NONE, write-only), has been unmapped meanwhile,
  // or cannot be read at all.
  if (!read_all(runs, into)) read_one_by_one(runs, into);
}

// What is not there, or swapped out, is nobody's exclusively.
void ProcessReader::look_up(std::span<const pagewire::Run> runs) {
  exclusive_.clear();
  while (!runs.empty()) {
    std::size_t together = 1;
    while (together < runs.size() && runs[together].address - end_of(runs[together - 1]) < worth_a_call * page_size)
      together++;
    const std::uint64_t start = runs.front().address;
    entries_.assign((end_of(runs[together - 1]) - start) / page_size, 0);
    check(::pread(pagemap_, entries_.data(), entries_.size() * sizeof entries_[0],
                  static_cast<off_t>(start / page_size * sizeof entries_[0])),
          "look up pages of process {}", pid_);
    for (const pagewire::Run& r : runs.first(together))
      for (std::uint64_t page = 0, first = (r.address - start) / page_size; page < r.pages; page++)
        exclusive_.push_back(entries_[first + page] & mapped_exclusively);
    runs = runs.subspan(together);
  }
}

bool ProcessReader::read_all(std::span<const pagewire::Run> runs, std::span<std::byte> into) {
  std::vector<iovec> local, remote;
  std::size_t want = 0, at = 0;  // `at`: of the page among all
  for (const pagewire::Run& r : runs)
    for (std::uint64_t page = 0; page < r.pages;) {
      std::uint64_t pages = r.pages - page;
      const bool pinned = pagemap_ < 0 || exclusive_[at];
      if (pagemap_ >= 0) {
        const auto first = exclusive_.begin() + static_cast<std::ptrdiff_t>(at);
        pages =
            static_cast<std::uint64_t>(std::find(first, first + static_cast<std::ptrdiff_t>(pages), !pinned) - first);
      }
      const std::span<std::byte> part = into.subspan(at * page_size, pages * page_size);
      const std::uint64_t address = r.address + page * page_size;
      page += pages;
      at += pages;
      if (!pinned) {
        if (::pread(mem_, part.data(), part.size(), static_cast<off_t>(address)) != static_cast<ssize_t>(part.size()))
          return false;
        continue;
      }
      remote.push_back({reinterpret_cast<void*>(address), part.size()});
      if (!local.empty() && static_cast<std::byte*>(local.back().iov_base) + local.back().iov_len == part.data())
        local.back().iov_len += part.size();
      else
        local.push_back({part.data(), part.size()});
      want += part.size();
    }
  if (want == 0) return true;
  const ssize_t got = ::process_vm_readv(pid_, local.data(), local.size(), remote.data(), remote.size(), 0);
  if (got < 0 && errno != EFAULT) check(got, "read memory of process {}", pid_);
  return got == static_cast<ssize_t>(want);
}

void ProcessReader::read_one_by_one(std::vector<pagewire::Run>& runs, std::span<std::byte> into) const {
  std::vector<pagewire::Run> there;
  std::byte* at = into.data();
  for (const pagewire::Run& r : runs)
    for (std::uint64_t page = r.address; page < end_of(r); page += page_size) {
      if (::pread(mem_, at, page_size, static_cast<off_t>(page)) != static_cast<ssize_t>(page_size)) continue;
      at += page_size;
      if (!there.empty() && end_of(there.back()) == page)
        there.back().pages++;
      else
        there.push_back({page, 1});
    }
  if (there.empty() && !runs.empty()) require_process(runs.front().address);
  runs = std::move(there);
}

// /proc/PID/mem of a process that has ended is empty, and says nothing else.
void ProcessReader::require_process(std::uint64_t address) const {
  std::byte byte{};
  const iovec local{&byte, 1}, remote{reinterpret_cast<void*>(address), 1};
  const ssize_t got = ::process_vm_readv(pid_, &local, 1, &remote, 1, 0);
  if (got < 0 && errno != EFAULT) check(got, "read memory of process {}", pid_);
}

}  // namespace godwit::engine
