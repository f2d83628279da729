#include "agent/engine/memory/task_memory.h"

#include "agent/engine/memory/aio_ring.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/image/image_set.h"

#include <algorithm>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace godwit::engine {
namespace {

std::vector<proc::Vma> read_maps(pid_t pid) { return proc::parse_maps(read_file(fmt::format("/proc/{}/maps", pid))); }

// Where the content of a mapped file ends in the mapping.
std::uint64_t end_of_file(pid_t pid, const proc::Vma& vma) {
  struct stat st{};
  check(::fstat(open_mapped(pid, vma, O_PATH).get(), &st), "stat {}", vma.name);
  const std::uint64_t size = page_up(static_cast<std::uint64_t>(st.st_size));
  return vma.start + std::min(vma.size(), size - std::min(size, vma.offset));
}

}  // namespace

TaskMemory::TaskMemory(pid_t pid, pid_t guest_pid, UniqueFd userfaultfd, resources::FileIds& ids, Worker* second)
    : pid_(pid),
      guest_pid_(guest_pid),
      ids_(ids),
      imager_(pid, ids),
      tracker_(pid, std::move(userfaultfd), second),
      memory_(open_file(fmt::format("/proc/{}/mem", pid), O_RDONLY)),
      process_(pid, memory_.get()),
      reader_(&process_) {}

std::vector<proc::Vma> TaskMemory::look_again() {
  const std::vector<proc::VmaUsage> usage = proc::parse_smaps(read_file(fmt::format("/proc/{}/smaps", pid_)));
  flags_.learn(usage);
  std::vector<proc::Vma> maps;
  for (const proc::VmaUsage& u : usage) maps.push_back(u.vma);
  return maps;
}

std::vector<proc::Vma> TaskMemory::without_ours(std::vector<proc::Vma> maps, bool frozen) const {
  if (frozen)
    std::erase_if(maps, [&](const proc::Vma& vma) { return vma.start >= ours_.first && vma.end <= ours_.second; });
  return maps;
}

void TaskMemory::look() { look_again(); }

bool TaskMemory::still_there() const {
  // The descriptor stays with the address space that it was opened for. Of one that nobody uses it reads nothing; of
  // this one an error, where nothing is mapped.
  std::byte byte{};
  return ::pread(memory_.get(), &byte, 1, 0) != 0;
}

// smaps costs 30 ms per GiB, in which a busy task writes megabytes: only where a mapping looks new.
void TaskMemory::read_layout(bool frozen) {
  maps_ = without_ours(read_maps(pid_), frozen);
  if (!flags_.covers(maps_)) maps_ = without_ours(look_again(), frozen);
  for (const proc::Vma& vma : maps_)
    if (const auto refused = refuse_vma(vma, *flags_.find(vma)))
      throw Error(Errc::refused, fmt::format("memory at {:#x} ({}): {}", vma.start, vma.name, refused->reason),
                  refused->hint);
  imager_.begin_round(frozen);
  // What a running task has unmapped since counts as unmapped.
  std::erase_if(maps_, [&](const proc::Vma& vma) {
    try {
      imager_.look_at(vma, *flags_.find(vma));
      return false;
    } catch (const Error& e) {
      if (frozen || e.errc() != Errc::not_found) throw;
      return true;
    }
  });
}

void TaskMemory::describe(image::MmEntry& mm) const {
  for (const proc::Vma& vma : maps_) {
    // 6.13+ has the virtual clocks' pages in a mapping of their own; in an image both are one, as before.
    if (vma.kind == proc::VmaName::vvar_vclock && mm.vmas_size() > 0 && mm.vmas().rbegin()->end() == vma.start) {
      mm.mutable_vmas()->rbegin()->set_end(vma.end);
      continue;
    }
    if (is_aio_ring(vma)) {
      image::AioRingEntry& ring = *mm.add_aios();
      ring.set_id(vma.start);
      ring.set_nr_req(aio_requests(vma.size()));
      ring.set_ring_len(static_cast<std::uint32_t>(vma.size()));
    }
    image::VmaEntry& entry = *mm.add_vmas();
    entry = imager_.entry(vma, *flags_.find(vma));
    if (const numa::Policy* policy = policies_ ? policies_->find(vma) : nullptr) *entry.mutable_numa() = *policy;
    for (const pagewire::Run& guard : tracker_.guards().runs(vma.start, vma.end)) {
      entry.add_guards(guard.address);
      entry.add_guards(guard.address + guard.pages * page_size);
    }
  }
}

// To the receiver a file that has another name is another file, which it maps in the place of the first: what was
// written to that mapping is gone there. Returns what was sent of it. It may be another file indeed: then it is for the
// scan to say what is there.
PageSet TaskMemory::sent_of_renamed(const image::MmEntry& next) {
  PageSet sent;
  std::vector<FileMapping> now;
  for (const image::VmaEntry& e : next.vmas())
    if (e.shmid() != 0 && (e.flags() & MAP_PRIVATE)) now.push_back({e.start(), e.end(), e.shmid()});
  auto before = of_files_.begin();
  for (const FileMapping& m : now) {
    while (before != of_files_.end() && before->end <= m.start) ++before;
    for (auto b = before; b != of_files_.end() && b->start < m.end; ++b) {
      if (b->file_id == m.file_id) continue;
      for (const pagewire::Run& r : sent_.runs(std::max(b->start, m.start), std::min(b->end, m.end)))
        sent.add(r.address, r.address + r.pages * page_size);
    }
  }
  of_files_ = std::move(now);
  return sent;
}

// Behind a scan: not what that has dropped.
void TaskMemory::owe_renamed(const PageSet& sent) {
  for (const pagewire::Run& old : sent.runs())
    for (const pagewire::Run& r : sent_.runs(old.address, old.address + old.pages * page_size))
      owed_.add(r.address, r.address + r.pages * page_size);
}

PageSet TaskMemory::emit_layout(PageSink& sink) {
  image::MmEntry mm;
  describe(mm);
  for (auto set :
       {&image::MmEntry::set_mm_start_code, &image::MmEntry::set_mm_end_code, &image::MmEntry::set_mm_start_data,
        &image::MmEntry::set_mm_end_data, &image::MmEntry::set_mm_start_stack, &image::MmEntry::set_mm_start_brk,
        &image::MmEntry::set_mm_brk, &image::MmEntry::set_mm_arg_start, &image::MmEntry::set_mm_arg_end,
        &image::MmEntry::set_mm_env_start, &image::MmEntry::set_mm_env_end})
    (mm.*set)(0);  // required by the format, known only at the freeze
  mm.set_exe_file_id(0);
  image::ImageSet files;
  ids_.write_mapped(files);
  for (const auto& [name, bytes] : files.files()) sink.file(fmt::format("{}{}", layout_prefix, name), bytes);
  // Last: the receiver applies the layout when it has this.
  sink.file(fmt::format("{}mm-{}", layout_prefix, guest_pid_), mm.SerializeAsString());
  return sent_of_renamed(mm);
}

void TaskMemory::find_segments(bool frozen, SharedMemory& shared, std::map<std::uint64_t, std::uint64_t>& ends) const {
  for (const proc::Vma& vma : maps_) {
    if (!is_shared_anonymous(vma)) continue;
    try {
      struct stat st{};
      UniqueFd fd = open_mapped_memory(pid_, vma, O_RDONLY, st);
      const std::uint32_t shmid = ids_.shmid_for(st.st_dev, st.st_ino);
      std::uint64_t& end = ends[shmid];
      end = std::max(end, vma.offset + (vma.end - vma.start));
      if (!shared.known(shmid)) shared.add(shmid, std::move(fd));
    } catch (const Error& e) {
      if (frozen || e.errc() != Errc::not_found) throw;
    }
  }
}

pagewire::ObjectId TaskMemory::object() const {
  return pagewire::object_id(pagewire::ObjectType::task, static_cast<std::uint64_t>(guest_pid_));
}

void RoundCount::add(const RoundCount& other) {
  emitted.add(other.emitted);
  scanned.add(other.scanned);
}

RoundCount TaskMemory::round(PageSink& sink, bool frozen) { return round(sink, frozen, nullptr); }

RoundCount TaskMemory::round_with_stop(PageSink& sink, const Stop& stop) { return round(sink, false, &stop); }

RoundCount TaskMemory::round(PageSink& sink, bool frozen, const Stop* stop) {
  RoundCount count;
  read_layout(frozen);
  const PageSet renamed = emit_layout(sink);
  PageEmitter emitter(object(), *reader_, sink, sent_, &debt_);
  if (stop) {
    NotedChanges noted;
    {
      const std::shared_ptr<void> stopped = (*stop)();
      count.scanned = tracker_.scan(maps_, noted, sent_, frozen);
    }
    noted.replay(emitter);
  } else {
    count.scanned = tracker_.scan(maps_, emitter, sent_, frozen);
  }
  owe_renamed(renamed);
  emit_owed(emitter);
  if (frozen)
    require_all(emitter);
  else
    owe_missed(emitter);
  count.emitted = emitter.count();
  return count;
}

RoundCount TaskMemory::scan_last(PageSink& sink) {
  RoundCount count;
  read_layout(true);
  const PageSet renamed = emit_layout(sink);
  PageEmitter emitter(object(), *reader_, sink, sent_, &debt_);
  NotedChanges noted;
  count.scanned = tracker_.scan(maps_, noted, sent_, true);
  // Before anything is told to the sink, which may fail: a scan says it once.
  for (const pagewire::Run& r : noted.added().runs()) owed_.add(r.address, r.address + r.pages * page_size);
  noted.replay_drops(emitter);
  emitter.flush();
  owe_renamed(renamed);
  count.emitted = emitter.count();
  return count;
}

RoundCount TaskMemory::send_owed(PageSink& sink) {
  RoundCount count;
  PageEmitter emitter(object(), *reader_, sink, sent_, &debt_);
  emit_owed(emitter);
  require_all(emitter);
  count.emitted = emitter.count();
  return count;
}

void TaskMemory::emit_owed(PageEmitter& emitter) {
  emitter.flush();  // runs of one frame ascend
  for (const proc::Vma& vma : maps_)
    for (const pagewire::Run& r : owed_.runs(vma.start, vma.end))
      emitter.add(r.address, r.address + r.pages * page_size, true);
  emitter.flush();
  owed_.clear();  // not before: a sink may be TooSlow for the last of them
}

// The scan will not report them again. What has been unmapped since falls out when the owed pages are sent.
void TaskMemory::owe_missed(const PageEmitter& emitter) {
  for (const pagewire::Run& r : emitter.missed().runs()) owed_.add(r.address, r.address + r.pages * page_size);
}

// Of a stopped task nothing may be missing but what nobody can read: guards, and pages past the end of a mapped file.
void TaskMemory::require_all(const PageEmitter& emitter) const {
  if (emitter.missed().size() == 0) return;
  PageSet missed = emitter.missed();
  for (const pagewire::Run& guard : tracker_.guards().runs())
    missed.remove(guard.address, guard.address + guard.pages * page_size);
  for (const proc::Vma& vma : maps_) {
    if (!missed.intersects(vma.start, vma.end)) continue;
    if (Tracker::of_file(vma)) missed.remove(end_of_file(pid_, vma), vma.end);
    for (const pagewire::Run& r : missed.runs(vma.start, vma.end))
      fail(Errc::unsupported, "memory at {:#x} of process {} cannot be read", r.address, pid_);
  }
}

HeldPages TaskMemory::held() const {
  HeldPages held;
  held[object()] = &sent_;
  return held;
}

void TaskMemory::begin_count() {
  read_layout(false);
  NotedChanges ignored;
  tracker_.scan(maps_, ignored, sent_, false);
}

std::uint64_t TaskMemory::dirty_bytes() { return tracker_.dirty_bytes(read_maps(pid_)); }

void TaskMemory::owe_unacknowledged() {
  for (const auto& [object, run] : debt_.take_back()) owed_.add(run.address, run.address + run.pages * page_size);
}

void find_shared_memory(const std::vector<const TaskMemory*>& tasks, const resources::FileIds& ids, bool frozen,
                        SharedMemory& shared) {
  std::map<std::uint64_t, std::uint64_t> ends;
  for (const TaskMemory* task : tasks) task->find_segments(frozen, shared, ends);
  for (const resources::Segment& s : ids.segments()) ends.try_emplace(s.shmid, 0);
  shared.keep_only(ends);
  for (const resources::Segment& s : ids.segments())
    if (s.memfd && !shared.known(s.shmid))
      shared.add(s.shmid, UniqueFd(check(::fcntl(s.memfd.get(), F_DUPFD_CLOEXEC, 0), "duplicate a memfd")));
}

}  // namespace godwit::engine
