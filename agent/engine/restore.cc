#include "agent/engine/restore.h"

#include "agent/engine/memory/task_memory.h"
#include "agent/engine/ptrace/pin.h"
#include "agent/engine/ptrace/tracing.h"
#include "agent/engine/resources/process_file.h"
#include "agent/engine/resources/terminal_images.h"
#include "agent/engine/restore/layout_file.h"
#include "agent/engine/ptrace/sharing.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/image/files.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/timens.pb.h"
#include "common/image/tty.pb.h"
#include "common/image/unfinished.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <map>
#include <ranges>
#include <set>

#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/memfd.h>
#include <linux/sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

namespace godwit::engine {
namespace {

constexpr std::size_t largest_image = 256u << 20;

}  // namespace

Restore::Restore(Surroundings surroundings) : surroundings_(std::move(surroundings)) {
  if (!surroundings_.cgroup.empty()) cgroup_directory_ = open_file(surroundings_.cgroup, O_RDONLY | O_DIRECTORY);
}

Family& Restore::family() {
  if (!family_) fail(Errc::image_corrupt, "memory comes before the layout that it belongs to");
  return *family_;
}

AddressSpace& Restore::memory_of(pagewire::ObjectId object) {
  return family().of(static_cast<pid_t>(pagewire::object_number(object))).memory();
}

void Restore::pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs, std::span<const std::byte> data) {
  family();
  switch (pagewire::object_type(object)) {
    case pagewire::ObjectType::task: return memory_of(object).fill(runs, data);
    case pagewire::ObjectType::shmem: return segments_->fill(pagewire::object_number(object), runs, data);
  }
  fail(Errc::protocol, "pages of an unknown kind of object ({:#x})", object);
}

void Restore::zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) {
  family();
  switch (pagewire::object_type(object)) {
    case pagewire::ObjectType::task: return memory_of(object).zero(runs);
    case pagewire::ObjectType::shmem: return segments_->clear(pagewire::object_number(object), runs);
  }
  fail(Errc::protocol, "zero pages of an unknown kind of object ({:#x})", object);
}

void Restore::drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) {
  family();
  switch (pagewire::object_type(object)) {
    case pagewire::ObjectType::task: return memory_of(object).drop(runs);
    case pagewire::ObjectType::shmem: return segments_->clear(pagewire::object_number(object), runs);
  }
  fail(Errc::protocol, "dropped pages of an unknown kind of object ({:#x})", object);
}

void Restore::file(std::string_view name, std::uint64_t offset, std::span<const std::byte> part, bool last) {
  std::string& content = partial_[std::string(name)];
  if (offset == 0) content.clear();  // a freeze that was given up half-way may have left the beginning of one
  if (offset != content.size()) fail(Errc::protocol, "{}: a part at {} follows {} bytes", name, offset, content.size());
  if (content.size() + part.size() > largest_image)
    fail(Errc::protocol, "{} is larger than {} bytes", name, largest_image);
  content.append(reinterpret_cast<const char*>(part.data()), part.size());
  if (!last) return;
  std::string whole = std::move(content);
  partial_.erase(partial_.find(name));
  if (name.starts_with(layout_prefix))
    layout_file(std::string(name.substr(layout_prefix.size())), std::move(whole));
  else
    images_.put_file(std::string(name), std::move(whole));
}

void Restore::layout_file(const std::string& name, std::string content) {
  const LayoutFile file = layout_file_of(name);
  switch (file.kind) {
    case LayoutFile::Kind::layout: {
      image::MmEntry mm;
      if (!mm.ParseFromString(content)) fail(Errc::image_corrupt, "a layout that is no layout");
      apply_layout(file.pid, Vmas(mm.vmas().begin(), mm.vmas().end()), layout_files_);
      layout_files_ = {};
      return;
    }
    case LayoutFile::Kind::tree: {
      image::ImageSet tree;
      tree.put_file(name, std::move(content));
      return begin(read_tree(tree));
    }
    case LayoutFile::Kind::gone: return family().remove(file.pid);
    case LayoutFile::Kind::reset:
      if (Skeleton* skeleton = family().find(file.pid))
        skeleton->memory().apply({}, [](std::uint64_t) { return MappedFile{}; });
      return;
    case LayoutFile::Kind::image: layout_files_.put_file(name, std::move(content));
  }
}

void Restore::begin(TreePlan plan) {
  if (!family_) {
    helper_ = std::make_unique<Helper>(surroundings_.init ? surroundings_.init.get() : -1,
                                       cgroup_directory_ ? cgroup_directory_.get() : -1, ids_of(plan));
    segments_ = std::make_unique<RestoredSegments>(
        helper_->guest_pid(), [this](const SegmentSpec& spec) { return helper_->make_segment(spec); });
    family_ = std::make_unique<Family>(*helper_, *segments_, surroundings_.sibling, job_);
  }
  family_->set_plan(std::move(plan));
}

void Restore::apply_layout(pid_t pid, const Vmas& vmas, const image::ImageSet& files) {
  Doing doing("applying a layout of {} mappings to process {}", vmas.size(), pid);
  check_layout(vmas);
  std::map<std::uint64_t, MappedFile> mapped;
  std::map<std::uint64_t, image::MemfdInodeEntry> memfds;
  for (const auto& m : files.records<image::MemfdInodeEntry>(image::Kind::memfd)) memfds[m.inode_id()] = m;
  for (const auto& f : files.records<image::FileEntry>(image::Kind::files)) {
    if (f.has_memfd())
      mapped[f.id()] = {
          .path = {}, .flags = static_cast<int>(f.memfd().flags()), .memfd = memfds[f.memfd().inode_id()].shmid()};
    else if (f.has_reg())
      mapped[f.id()] = {.path = f.reg().name(), .flags = static_cast<int>(f.reg().flags()), .memfd = 0};
  }
  Skeleton* skeleton = family().find(pid);
  if (skeleton)
    skeleton->make_room_for(vmas);
  else
    skeleton = &family().make(pid, vmas);
  for (const auto& [id, m] : memfds)
    segments_->declare(m.shmid(), {.memfd = true,
                                   .memfd_name = m.name(),
                                   .size = m.size(),
                                   .create_flags = MFD_ALLOW_SEALING | m.hugetlb_flag()});
  skeleton->memory().apply(vmas, [&](std::uint64_t id) {
    const auto it = mapped.find(id);
    if (it == mapped.end()) fail(Errc::image_corrupt, "a mapping of file {}, which is not described", id);
    return it->second;
  });
}

void Restore::make_shell_job(ShellJob job, CallersTerminal* terminal) {
  job_ = job;
  terminal_ = terminal;
}

Restore::JobGroups Restore::job_groups() const {
  const auto here = [&](pid_t group) {
    const pid_t found = family_->group_of(group);
    return found == Family::callers ? ::getpgrp() : found;
  };
  const TreePlan& plan = family_->plan();
  const auto info = describe_terminal(job_, images_);
  const auto front = static_cast<pid_t>(info ? info->pgrp() : 0);
  const bool of_tree = std::ranges::any_of(plan, [&](const ProcessPlan& p) { return p.pgid == front && !p.dead; });
  const pid_t of_root = plan.front().pgid;
  return {.root = here(of_root), .front = here(of_tree ? front : of_root)};
}

const image::ImageSet& Restore::load(int directory) {
  image::Unfinished::refuse(directory);
  images_ = image::ImageSet::load(directory);
  correct_ended(images_);
  return images_;
}

std::uint64_t Restore::absorb_directory(int directory, const DirectoryPages::Frees& frees) {
  for (const std::string& notice : refuse_foreign_state(images_, connections_, job_.terminal))
    log::warn("restore.notice", {{"what", notice}});
  begin(read_tree(images_));
  DirectoryPages content(directory, frees);
  std::set<pid_t> parents;
  for (const ProcessPlan& p : family().plan()) parents.insert(p.ppid);
  if (family().plan().size() > 1) content.begin_aside(family().plan().size());
  std::optional<Pin> pin(std::in_place);  // not while content goes in, which two threads do
  const auto fill = [&](pid_t pid) {
    pin.reset();
    content.fill(pid, family().of(pid).memory());
  };
  // Content comes when everybody is there: a fork of a full process copies its page tables. Not where somebody has
  // mappings from his maker: those pages that are the same in both are shared by the fork (memory/forked_memory.cc).
  // Nor that of whoever bears nobody.
  const auto has_memory = [](const ProcessPlan& p) { return p.memory_of == 0 && !p.dead; };
  for (const ProcessPlan& p : family().plan()) {
    if (!has_memory(p)) continue;
    const auto id = static_cast<std::uint64_t>(p.pid);
    const auto& mm = images_.view<image::MmEntry>(image::Kind::mm, id);
    const Doing doing("{}", image::file_name(image::Kind::mm, id));
    const Vmas layout(mm.vmas().begin(), mm.vmas().end());
    Skeleton* const maker = family().maker_of(p.pid);
    if (maker && inherits_any(maker->memory().layout(), layout)) fill(maker->guest_pid());
    if (!pin) pin.emplace();
    pin->bring(maker ? maker->pid() : helper_->pid());
    apply_layout(p.pid, layout, images_);
    if (maker && !parents.contains(p.pid)) content.fill_aside(p.pid, family().of(p.pid).memory());
  }
  pin.reset();
  for (const ProcessPlan& p : family().plan())
    if (has_memory(p) && !content.is_aside(p.pid)) fill(p.pid);
  for (const std::uint64_t shmid : images_.ids(image::Kind::pagemap_shmem)) content.fill(shmid, *segments_);
  return content.finish();
}

namespace {

struct Clocks {
  std::uint64_t monotonic_ns = 0, boottime_ns = 0;
};

// Those that the process has seen. Nothing when the images do not say.
std::optional<Clocks> clocks_in(const image::ImageSet& images, pid_t pid) {
  const auto& leader = images.view<image::CoreEntry>(image::Kind::core, static_cast<std::uint64_t>(pid));
  if (leader.tc().has_monotonic_ns()) return Clocks{leader.tc().monotonic_ns(), leader.tc().boottime_ns()};
  // CRIU's images have them to themselves.
  const std::vector<std::uint64_t> ids = images.ids(image::Kind::timens);
  if (ids.empty()) return std::nullopt;
  const auto clocks = images.get<image::TimensEntry>(image::Kind::timens, ids.front());
  return Clocks{clocks.monotonic().tv_sec() * 1'000'000'000u + clocks.monotonic().tv_nsec(),
                clocks.boottime().tv_sec() * 1'000'000'000u + clocks.boottime().tv_nsec()};
}

}  // namespace

// The clocks of two hosts differ, and deadlines that the tasks keep in their memory must stay true: they get a time
// namespace whose clocks go on where the source's stopped. Not when ours are a little ahead: a pause looks the same.
// Whoever is made later is born into it.
void Restore::join_clocks() {
  constexpr std::uint64_t close_enough = 60'000'000'000;
  const auto clocks = clocks_in(images_, family().plan().front().pid);
  if (!clocks) return;
  timespec boot{};
  ::clock_gettime(CLOCK_BOOTTIME, &boot);
  const std::uint64_t boot_ns =
      static_cast<std::uint64_t>(boot.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(boot.tv_nsec);
  if (monotonic_ns() - clocks->monotonic_ns < close_enough && boot_ns - clocks->boottime_ns < close_enough) return;
  const int ns = helper_->time_namespace(clocks->monotonic_ns, clocks->boottime_ns);
  for (const ProcessPlan& p : family().plan())
    if (Skeleton* const skeleton = family().find(p.pid)) skeleton->join_time_namespace(helper_->guest_pid(), ns);
}

// Memory is inherited, and nobody can leave it.
void Restore::check_shared_memory(const std::vector<TaskRestore>& tasks) const {
  const TreePlan& plan = family_->plan();
  if (std::ranges::all_of(plan, [](const ProcessPlan& p) { return p.memory_of == 0; })) return;
  std::vector<pid_t> pids;
  for (const TaskRestore& task : tasks) pids.push_back(task.skeleton().pid());
  const std::vector<pid_t> found = first_sharers(pids, KCMP_VM);
  for (std::size_t i = 0; i < tasks.size(); i++) {
    const pid_t pid = tasks[i].skeleton().guest_pid();
    const pid_t memory_of = std::ranges::find(plan, pid, &ProcessPlan::pid)->memory_of;
    if (found[i] != family_->of(memory_of != 0 ? memory_of : pid).pid())
      fail(Errc::image_corrupt, "process {} is not born to share its memory with those that it should", pid);
  }
}

// Only whoever has a controlling terminal can open it as /dev/tty.
void Restore::adopt_current_terminals() {
  std::map<std::uint32_t, int> terminals;
  const auto all = images_.records<image::TtyInfoEntry>(image::Kind::tty_info);
  for (const auto& info : all)
    if (const auto index = resources::current_index(info, all); index && info.type() == image::TTY_CURRENT)
      terminals[info.id()] = static_cast<int>(*index);
  if (terminals.empty()) return;
  for (const auto& file : images_.records<image::FileEntry>(image::Kind::files)) {
    const auto at = terminals.find(file.tty().tty_info_id());
    if (!file.has_tty() || at == terminals.end()) continue;
    Skeleton* const process = family().anybody_at(at->second);
    if (!process) fail(Errc::unsupported, "/dev/tty is open, but nobody has /dev/pts/{} as his terminal", at->second);
    const int flags = static_cast<int>(file.tty().flags() & O_ACCMODE) | O_NOCTTY | O_NONBLOCK | O_CLOEXEC;
    Batch batch(process->scratch());
    const std::size_t open =
        batch.add("open /dev/tty", SYS_openat, AT_FDCWD, batch.put(std::string_view("/dev/tty")), flags, 0);
    process->leader().run(batch);
    const int number = static_cast<int>(batch.result(open));
    helper_->adopt(file.id(), process->guest_pid(), number);
    process->leader().call("close /dev/tty", SYS_close, number);
  }
}

// What processes may share, and were born with.
struct Restore::Shared {
  int kind;            // kcmp(2)
  std::uint64_t flag;  // unshare(2)
  bool ProcessPlan::* born_with;
  std::uint32_t (TaskRestore::*id)() const;
  std::string_view name;
};
constexpr Restore::Shared Restore::shared_tables{KCMP_FILES, CLONE_FILES, &ProcessPlan::with_files,
                                                 &TaskRestore::files_id, "descriptor table"};
constexpr Restore::Shared Restore::shared_places{KCMP_FS, CLONE_FS, &ProcessPlan::with_fs, &TaskRestore::fs_id,
                                                 "working directory"};

// Whoever was born with what is to be his alone leaves it. Returns the first of those who share, for each object.
std::vector<TaskRestore*> Restore::share_out(std::vector<TaskRestore>& tasks, const Shared& shared) const {
  std::map<std::uint32_t, std::vector<TaskRestore*>> sharers;
  for (TaskRestore& task : tasks) sharers[(task.*shared.id)()].push_back(&task);
  const bool inherited = std::ranges::any_of(family_->plan(), shared.born_with);
  std::vector<TaskRestore*> first;
  for (const auto& [number, all] : sharers) {
    if (inherited && all.size() == 1) all.front()->unshare(shared.flag);
    first.push_back(all.front());
  }
  if (!inherited && first.size() == tasks.size()) return first;
  std::vector<pid_t> pids;
  for (const TaskRestore& task : tasks) pids.push_back(task.skeleton().pid());
  const std::vector<pid_t> found = first_sharers(pids, shared.kind);
  for (std::size_t i = 0; i < tasks.size(); i++)
    if (found[i] != sharers.at((tasks[i].*shared.id)()).front()->skeleton().pid())
      fail(Errc::image_corrupt, "process {} is not born to share its {} with those that it should",
           tasks[i].skeleton().guest_pid(), shared.name);
  return first;
}

// First threads are there from the beginning.
bool Restore::any_stands_for_a_thread() const {
  return std::ranges::any_of(images_.records<image::FileEntry>(image::Kind::files), [&](const image::FileEntry& file) {
    const auto tid = resources::process_file::thread_of(file);
    return tid && std::ranges::find(family_->plan(), *tid, &ProcessPlan::pid) == family_->plan().end();
  });
}

void Restore::restore_all(std::vector<TaskRestore>& tasks, Steps& steps) {
  const auto all = [&](void (TaskRestore::*part)()) {
    for (TaskRestore& task : tasks) (task.*part)();
  };
  all(&TaskRestore::address_space);
  segments_->finish();
  check_shared_memory(tasks);
  steps.lap("address space");

  const std::vector<TaskRestore*> with_places = share_out(tasks, shared_places);
  const std::vector<TaskRestore*> with_tables = share_out(tasks, shared_tables);
  // Otherwise they are made when the helper has gone, whose PID may be what one of them needs.
  const bool threads_first = any_stands_for_a_thread();
  if (threads_first) {
    all(&TaskRestore::process);
    all(&TaskRestore::make_threads);
  }
  adopt_current_terminals();
  if (terminal_) helper_->replace_terminal(job_.terminal, terminal_->fd());
  helper_->open_files(images_, segments_->numbers());
  if (terminal_)
    if (const auto info = describe_terminal(job_, images_)) terminal_->set(*info);
  family().drop_window_signals();
  for (TaskRestore* task : with_places) task->places();
  for (TaskRestore* task : with_tables) task->descriptors(*helper_);
  helper_->end();  // before anybody asks to be told of the end of his parent
  all(&TaskRestore::locks);
  steps.lap("descriptors");
  fault::point("engine.restore.fds");

  if (!threads_first) {
    all(&TaskRestore::process);
    all(&TaskRestore::make_threads);
  }
  for (TaskRestore& task : tasks)
    if (const auto init = family().namespace_of_children(task.skeleton().guest_pid()))
      task.namespace_of_children(*init == 0 ? nullptr : &family().of(*init));
  all(&TaskRestore::threads);
  steps.lap("threads");

  all(&TaskRestore::timers);
  steps.lap("timers");

  // Children first: of a stop the parent is told, which is taken back while that is easy.
  for (TaskRestore& task : tasks | std::views::reverse) {
    task.registers();
    if (!task.was_stopped()) continue;
    task.stop();
    const pid_t parent = family().parent_of(task.skeleton().guest_pid());
    for (TaskRestore& other : tasks)
      if (other.skeleton().guest_pid() == parent) other.child_has_stopped(task.skeleton(), task.stop_was_seen());
  }
  fault::point("engine.restore.registers");
  steps.lap("registers");
}

void Restore::let_go(const std::vector<TaskRestore>& tasks) {
  for (const TaskRestore& task : tasks)
    if (const pid_t pid = task.skeleton().pid(); leave_stopped_ && !task.was_stopped())
      check(::kill(pid, SIGSTOP), "stop process {}", pid);
  std::optional<Cgroup> cgroup;
  if (!surroundings_.cgroup.empty()) cgroup.emplace(surroundings_.cgroup);
  if (cgroup) cgroup->freeze();
  fault::point("engine.restore.held");
  for (const TaskRestore& task : tasks) {
    detach_threads(task.host_tids());
    task.skeleton().dismiss();
  }
  if (!cgroup) return;
  for (const TaskRestore& task : tasks) cgroup->wait_frozen(task.skeleton().pid(), task.host_tids());
}

// While they stand still: let go of, one may end at once.
Prepared Restore::describe(const std::vector<TaskRestore>& tasks) {
  Prepared prepared;
  for (const TaskRestore& task : tasks) {
    Task& t = *prepared.add_tasks();
    t.set_pid(task.skeleton().pid());
    t.set_guest_pid(task.skeleton().guest_pid());
    const proc::Reader proc(task.skeleton().pid());
    const proc::Stat stat = proc.stat();
    t.set_comm(stat.comm);
    t.set_start_time(stat.start_time);
    t.set_uid(proc.status().uid.effective);
    for (const pid_t tid : task.guest_tids()) t.add_threads(tid);
  }
  return prepared;
}

Prepared Restore::finish(const std::function<void(pid_t)>& before_it_runs) {
  Steps steps;
  fault::point("engine.restore.filled");
  const Pin pin;
  pin.bring(helper_->pid());  // it is asked, and answers, several times for each process
  family().set_plan(read_tree(images_));
  if (family().plan().front().dead)
    fail(Errc::image_corrupt, "process {}, the first of pstree.img, has ended", family().plan().front().pid);
  join_clocks();
  family().settle(images_);
  const resources::FilePaths paths = resources::paths_of(images_);
  const tasks::filters::Stored filters(images_);
  tasks::bounds::KernelAreas areas;
  std::vector<TaskRestore> tasks;
  tasks.reserve(family().plan().size());
  for (const ProcessPlan& p : family().plan()) {
    if (p.dead) continue;
    pin.bring(family().of(p.pid).pid());  // its affinity is restored in the end
    tasks.emplace_back(family().of(p.pid), images_, paths, filters, areas, p);
  }
  restore_all(tasks, steps);
  for (const TaskRestore& task : tasks)
    for (const std::string& notice : task.notices()) log::warn("restore.notice", {{"what", notice}});
  if (before_it_runs) before_it_runs(tasks.front().skeleton().pid());
  Prepared prepared = describe(tasks);
  let_go(tasks);
  steps.lap("hold");
  *prepared.mutable_steps() = steps.list();
  return prepared;
}

}  // namespace godwit::engine
