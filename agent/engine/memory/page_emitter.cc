#include "agent/engine/memory/page_emitter.h"

#include "common/base/buffer.h"
#include "common/base/check.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <unistd.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t max_pages = pagewire::max_payload / page_size;

// Two compares of a page against itself shifted by a word are as fast as memory: >= 80 GB/s in cache.
bool all_zero(const std::byte* page) {
  std::uint64_t first = 0;
  std::memcpy(&first, page, sizeof first);
  return first == 0 && std::memcmp(page, page + sizeof first, page_size - sizeof first) == 0;
}

}  // namespace

void Debt::note(std::uint64_t sequence, pagewire::ObjectId object, std::span<const pagewire::Run> runs) {
  entries_.push_back({sequence, object, {runs.begin(), runs.end()}});
}

void Debt::acknowledge(std::uint64_t sequence) {
  const auto keep = std::ranges::find_if(entries_, [&](const Entry& e) { return e.sequence > sequence; });
  entries_.erase(entries_.begin(), keep);
}

std::vector<std::pair<pagewire::ObjectId, pagewire::Run>> Debt::take_back() {
  std::vector<std::pair<pagewire::ObjectId, pagewire::Run>> owed;
  for (const Entry& e : entries_)
    for (const pagewire::Run& r : e.runs) owed.emplace_back(e.object, r);
  entries_.clear();
  return owed;
}

void FileReader::read(std::vector<pagewire::Run>& runs, std::span<std::byte> into) {
  for (const pagewire::Run& r : runs) {
    const std::size_t length = r.pages * page_size;
    const ssize_t got = check(::pread(fd_, into.data(), length, static_cast<off_t>(r.address)), "read shared memory");
    // A segment may end within its last page; the rest of that page is zero.
    if (static_cast<std::size_t>(got) < length)
      std::memset(into.data() + got, 0, length - static_cast<std::size_t>(got));
    into = into.subspan(length);
  }
}

void NotedChanges::replay_drops(PageChanges& to) const {
  for (const auto& [start, end] : dropped_) to.drop(start, end);
  to.flush();
}

void NotedChanges::replay(PageChanges& to) const {
  replay_drops(to);
  for (const pagewire::Run& r : added_.runs()) to.add(r.address, r.address + r.pages * page_size, true);
  to.flush();
}

PageEmitter::PageEmitter(pagewire::ObjectId object, PageReader& reader, PageSink& sink, PageSet& sent, Debt* debt)
    : object_(object), reader_(reader), sink_(sink), sent_(sent), debt_(debt) {}

PageEmitter::~PageEmitter() {
  for (const pagewire::Run& r : drops_) sent_.add(r.address, r.address + r.pages * page_size);
}

// The runs of a frame ascend: what comes from further down begins a new one.
void PageEmitter::add(std::uint64_t start, std::uint64_t end, bool zero_matters) {
  if (!pending_.empty() && start < pending_.back().run.address + pending_.back().run.pages * page_size) send_pending();
  while (start < end) {
    const std::uint64_t pages = std::min((end - start) / page_size, max_pages - pending_pages_);
    if (!pending_.empty() && pending_.back().zero_matters == zero_matters &&
        pending_.back().run.address + pending_.back().run.pages * page_size == start)
      pending_.back().run.pages += pages;
    else
      pending_.push_back({{start, pages}, zero_matters});
    pending_pages_ += pages;
    start += pages * page_size;
    if (pending_pages_ == max_pages || pending_.size() == pagewire::max_runs) send_pending();
  }
}

void PageEmitter::drop(std::uint64_t start, std::uint64_t end) {
  for (const pagewire::Run& r : sent_.runs(start, end)) {
    if (!drops_.empty() && r.address < drops_.back().address + drops_.back().pages * page_size) flush();
    drops_.push_back(r);
    count_.dropped_pages += r.pages;
    if (drops_.size() == pagewire::max_runs) flush();
  }
  sent_.remove(start, end);
}

void PageEmitter::flush() {
  send_pending();
  if (drops_.empty()) return;
  const std::uint64_t sequence = sink_.drop(object_, drops_);
  if (debt_) debt_->note(sequence, object_, drops_);
  drops_.clear();
}

void PageEmitter::send_zero(std::vector<pagewire::Run>& runs) {
  if (runs.empty()) return;
  const std::uint64_t sequence = sink_.zero(object_, runs);
  if (debt_) debt_->note(sequence, object_, runs);
  runs.clear();
}

void PageEmitter::note_missed(std::span<const pagewire::Run> read) {
  if (pagewire::pages_in(read) == pending_pages_) return;
  for (const Pending& p : pending_) missed_.add(p.run.address, p.run.address + p.run.pages * page_size);
  for (const pagewire::Run& r : read) missed_.remove(r.address, r.address + r.pages * page_size);
}

void PageEmitter::send_pending() {
  if (pending_.empty()) return;
  std::vector<pagewire::Run> runs;
  for (const Pending& p : pending_) runs.push_back(p.run);
  std::span<std::byte> data = sink_.buffer();
  reader_.read(runs, data);
  note_missed(runs);

  // Zero pages are cut out and the rest moves up.
  std::vector<pagewire::Run> kept, zero;
  std::size_t from = 0, to = 0, hint = 0;
  const auto append = [](std::vector<pagewire::Run>& list, std::uint64_t page) {
    if (!list.empty() && list.back().address + list.back().pages * page_size == page)
      list.back().pages++;
    else
      list.push_back({page, 1});
  };
  for (const pagewire::Run& r : runs)
    for (std::uint64_t page = r.address; page < r.address + r.pages * page_size; page += page_size, from += page_size) {
      while (hint + 1 < pending_.size() && pending_[hint].run.address + pending_[hint].run.pages * page_size <= page)
        hint++;
      if (all_zero(data.data() + from)) {
        const bool matters = pending_[hint].zero_matters || sent_.contains(page);
        if (!matters || sink_.live()) {
          count_.zero_pages++;
          if (matters) append(zero, page);
          continue;
        }
      }
      if (from != to) std::memmove(data.data() + to, data.data() + from, page_size);
      to += page_size;
      append(kept, page);
    }
  pending_.clear();
  pending_pages_ = 0;

  // Cutting zero pages out of runs can make more runs than a frame takes.
  std::size_t first = 0, sent_bytes = 0;
  Buffer rest;
  if (kept.size() > pagewire::max_runs) rest.assign(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(to));
  while (first < kept.size()) {
    const std::size_t n = std::min(kept.size() - first, pagewire::max_runs);
    const std::span<const pagewire::Run> part(kept.data() + first, n);
    const std::size_t bytes = pagewire::pages_in(part) * page_size;
    if (first > 0) std::memcpy(sink_.buffer().data(), rest.data() + sent_bytes, bytes);
    const std::uint64_t sequence = sink_.pages(object_, part);
    if (debt_) debt_->note(sequence, object_, part);
    for (const pagewire::Run& r : part) sent_.add(r.address, r.address + r.pages * page_size);
    count_.pages += bytes / page_size;
    count_.bytes += bytes;
    sent_bytes += bytes;
    first += n;
  }
  std::vector<pagewire::Run> some;
  for (const pagewire::Run& r : zero) {
    some.push_back(r);
    sent_.add(r.address, r.address + r.pages * page_size);
    if (some.size() == pagewire::max_runs) send_zero(some);
  }
  send_zero(some);
}

}  // namespace godwit::engine
