#include "agent/engine/memory/task_memory.h"

#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/image/image_set.h"

#include <algorithm>

#include <fcntl.h>
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
      reader_(std::make_unique<ProcessReader>(pid, memory_.get())) {}

std::vector<proc::Vma> TaskMemory::look_again() {
  const std::vector<proc::VmaUsage> usage = proc::parse_smaps(read_file(fmt::format("/proc/{}/smaps", pid_)));
  flags_.learn(usage);
  std::vector<proc::Vma> maps;
  for (const proc::VmaUsage& u : usage) maps.push_back(u.vma);
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
  maps_ = read_maps(pid_);
  if (!flags_.covers(maps_)) maps_ = look_again();
  for (const proc::Vma& vma : maps_)
    if (const auto refused = refuse_vma(vma, *flags_.find(vma)))
      throw Error(Errc::refused, fmt::format("memory at {:#x} ({}): {}", vma.start, vma.name, refused->reason),
                  refused->hint);
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
    image::VmaEntry& entry = *mm.add_vmas();
    entry = imager_.entry(vma, *flags_.find(vma));
    for (const pagewire::Run& guard : tracker_.guards().runs(vma.start, vma.end)) {
      entry.add_guards(guard.address);
      entry.add_guards(guard.address + guard.pages * page_size);
    }
  }
}

void TaskMemory::emit_layout(PageSink& sink) const {
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
}

void TaskMemory::find_segments(bool frozen, SharedMemory& shared, std::set<std::uint64_t>& mapped) const {
  for (const proc::Vma& vma : maps_) {
    if (!is_shared_anonymous(vma)) continue;
    try {
      struct stat st{};
      UniqueFd fd = open_mapped_memory(pid_, vma, O_RDONLY, st);
      const std::uint32_t shmid = ids_.shmid_for(st.st_dev, st.st_ino);
      mapped.insert(shmid);
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
  emit_layout(sink);
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
  emit_layout(sink);
  PageEmitter emitter(object(), *reader_, sink, sent_, &debt_);
  NotedChanges noted;
  count.scanned = tracker_.scan(maps_, noted, sent_, true);
  noted.replay_drops(emitter);
  emitter.flush();
  for (const pagewire::Run& r : noted.added().runs()) owed_.add(r.address, r.address + r.pages * page_size);
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
  owed_.clear();
  emitter.flush();
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
  std::set<std::uint64_t> mapped;
  for (const TaskMemory* task : tasks) task->find_segments(frozen, shared, mapped);
  for (const resources::Segment& s : ids.segments()) mapped.insert(s.shmid);
  shared.keep_only(mapped);
  for (const resources::Segment& s : ids.segments())
    if (s.memfd && !shared.known(s.shmid))
      shared.add(s.shmid, UniqueFd(check(::fcntl(s.memfd.get(), F_DUPFD_CLOEXEC, 0), "duplicate a memfd")));
}

}  // namespace godwit::engine
