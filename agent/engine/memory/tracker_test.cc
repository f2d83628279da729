// The shadow test: a hostile target is tracked over many rounds while it runs, then frozen; what was emitted must be,
// page by page, what it has. Run in a sanitized build, the target is a sparse giant as well (terabytes of shadow
// memory).
#include "agent/engine/memory/failing_reader.h"
#include "agent/engine/memory/hostile_target.h"
#include "agent/engine/memory/shadow_sink.h"
#include "agent/engine/memory/task_memory.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/proc/reader.h"

#include <gtest/gtest.h>

#include <array>

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

class Target {
 public:
  Target() {
    auto [from, to] = make_pipe();
    pid_ = check(::fork(), "fork");
    if (pid_ == 0) hostile_target(to.get());
    char c = 0;
    read_exact(from.get(), std::as_writable_bytes(std::span(&c, 1)));
    pidfd_.reset(static_cast<int>(check(::syscall(SYS_pidfd_open, pid_, 0), "pidfd")));
  }
  ~Target() {
    ::kill(pid_, SIGKILL);
    // The leader is the last to go: it waits for the others to be reaped.
    for (auto tid = seized_.rbegin(); tid != seized_.rend(); ++tid) ::waitpid(*tid, nullptr, __WALL);
    ::waitpid(pid_, nullptr, __WALL);
  }
  UniqueFd inject() {
    trace(PTRACE_SEIZE, pid_, 0, PTRACE_O_TRACESYSGOOD, "seize");
    trace(PTRACE_INTERRUPT, pid_, 0, 0, "interrupt");
    Stop stop = wait_stop(pid_);
    while (!stop.trap_stop()) {
      trace(PTRACE_CONT, pid_, 0, static_cast<unsigned long>(stop.signal()), "continue");
      stop = wait_stop(pid_);
    }
    UniqueFd fd;
    {
      RemoteAddr start{}, end{};
      for (const proc::Vma& vma : proc::Reader(pid_).maps())
        if (vma.kind == proc::VmaName::vdso) start = RemoteAddr{vma.start}, end = RemoteAddr{vma.end};
      RemoteSyscalls remote(pid_, pid_, find_syscall_instruction(pid_, start, end));
      fd = inject_userfaultfd(remote, pidfd_.get());
    }
    trace(PTRACE_DETACH, pid_, 0, 0, "detach");
    return fd;
  }
  void freeze() {
    for (bool more = true; more;) {
      more = false;
      for (const pid_t tid : proc::Reader(pid_).threads()) {
        if (std::ranges::find(seized_, tid) != seized_.end()) continue;
        trace(PTRACE_SEIZE, tid, 0, 0, "seize");
        trace(PTRACE_INTERRUPT, tid, 0, 0, "interrupt");
        wait_stop(tid);
        seized_.push_back(tid);
        more = true;
      }
    }
    // Its children write into it until they end. It cannot reap them any more.
    for (const pid_t child : proc::Reader(pid_).children())
      while (proc::Reader(child).status().state != 'Z') ::usleep(1000);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
  UniqueFd pidfd_;
  std::vector<pid_t> seized_;
};

// Compares by an independent path: /proc/PID/mem, page by page, whatever is present by the plain pagemap.
std::size_t count_differences(pid_t pid, const Shadow& shadow) {
  const pagewire::ObjectId task = pagewire::object_id(pagewire::ObjectType::task, static_cast<std::uint64_t>(pid));
  UniqueFd mem = open_file("/proc/" + std::to_string(pid) + "/mem", O_RDONLY);
  UniqueFd pagemap = open_file("/proc/" + std::to_string(pid) + "/pagemap", O_RDONLY);
  PagemapScanner scanner(pagemap.get());
  std::size_t differences = 0, compared = 0;
  for (const proc::Vma& vma : proc::Reader(pid).maps()) {
    if (kernel_vma(vma) || vma.shared) continue;
    const bool of_file = vma.kind == proc::VmaName::path;
    UniqueFd file;
    if (of_file) file = open_mapped(pid, vma, O_RDONLY);
    PageSet pages;  // all of a small mapping; what is there or held of a giant
    if (vma.size() < (256u << 20)) {
      pages.add(vma.start, vma.end);
    } else {
      std::vector<PageRegion> present;
      scanner.scan({.start = vma.start, .end = vma.end, .any_of = page_present | page_swapped}, present);
      for (const PageRegion& r : present) pages.add(r.start, r.end);
      shadow.add_held(task, vma.start, vma.end, pages);
    }
    for (const pagewire::Run& run : pages.runs())
      for (std::uint64_t page = run.address; page < run.address + run.pages * page_size; page += page_size) {
        std::array<std::byte, page_size> now{}, expected{};
        if (::pread(mem.get(), now.data(), page_size, static_cast<off_t>(page)) != static_cast<ssize_t>(page_size))
          continue;
        if (const auto* held = shadow.find(task, page))
          expected = *held;
        else if (of_file)
          check(::pread(file.get(), expected.data(), page_size, static_cast<off_t>(vma.offset + page - vma.start)),
                "read file");
        compared++;
        if (now != expected && differences++ < 5)
          ADD_FAILURE() << "page " << std::hex << page << " of " << vma.name << " prot " << vma.prot << " in "
                        << vma.start << "-" << vma.end << (shadow.find(task, page) ? " held" : " not held");
      }
  }
  EXPECT_GT(compared, 1000u);
  return differences;
}

// Guards are told with the layout: all of them, and no others.
void expect_the_guards_of(pid_t pid, const TaskMemory& memory) {
  image::MmEntry mm;
  memory.describe(mm);
  PageSet told;
  for (const image::VmaEntry& e : mm.vmas())
    for (int i = 0; i + 1 < e.guards_size(); i += 2) told.add(e.guards(i), e.guards(i + 1));
  UniqueFd pagemap = open_file("/proc/" + std::to_string(pid) + "/pagemap", O_RDONLY);
  PagemapScanner scanner(pagemap.get());
  PageSet there;
  for (const proc::Vma& vma : memory.maps()) {
    std::vector<PageRegion> present;
    if (!kernel_vma(vma))
      scanner.scan({.start = vma.start, .end = vma.end, .any_of = page_present | page_swapped}, present);
    for (const PageRegion& r : present)
      if (r.categories & page_guard) there.add(r.start, r.end);
  }
  for (const pagewire::Run& r : told.runs())
    for (std::uint64_t page = r.address; page < r.address + r.pages * page_size; page += page_size)
      EXPECT_TRUE(there.contains(page)) << "no guard at " << std::hex << page;
  EXPECT_EQ(told.size(), there.size());
}

TEST(Tracker, the_receiver_of_a_hostile_target_has_every_page) {
  Target target;
  resources::FileIds ids;
  TaskMemory memory(target.pid(), target.pid(), target.inject(), ids);
  Shadow shadow;
  SharedMemory shared;
  const auto emit_shared = [&](bool frozen) {
    EmitCount emitted;
    find_shared_memory({&memory}, ids, frozen, shared);
    shared.round(shadow, emitted, 0);
  };
  for (int round = 0; round < 15; round++) {
    const RoundCount count = memory.round(shadow, false);
    emit_shared(false);
    if (round == 0) EXPECT_GT(count.emitted.pages, 100u);
    ::usleep(30'000);
  }
  memory.look();
  target.freeze();
  const RoundCount last = memory.round(shadow, true);
  emit_shared(true);
  EXPECT_GT(last.emitted.pages, 0u);
  EXPECT_EQ(count_differences(target.pid(), shadow), 0u);
  expect_the_guards_of(target.pid(), memory);

  // Shared memory by its own objects.
  for (const proc::Vma& vma : memory.maps()) {
    if (!vma.shared || (!is_memfd(vma) && !is_shared_anonymous(vma))) continue;
    UniqueFd fd = open_mapped(target.pid(), vma, O_RDONLY);
    struct stat st{};
    ASSERT_EQ(::fstat(fd.get(), &st), 0);
    const pagewire::ObjectId object =
        pagewire::object_id(pagewire::ObjectType::shmem, ids.shmid_for(st.st_dev, st.st_ino));
    for (std::uint64_t at = 0; at < vma.size(); at += page_size) {
      std::array<std::byte, page_size> now{}, expected{};
      ASSERT_EQ(::pread(fd.get(), now.data(), page_size, static_cast<off_t>(at)), static_cast<ssize_t>(page_size));
      if (const auto* held = shadow.find(object, at)) expected = *held;
      EXPECT_TRUE(now == expected) << vma.name << " at " << at;
    }
  }
}

TEST(Tracker, without_a_userfaultfd_every_round_sends_everything) {
  Target target;
  resources::FileIds ids;
  TaskMemory memory(target.pid(), target.pid(), UniqueFd{}, ids);
  memory.look();
  target.freeze();
  for (int round = 0; round < 2; round++) {
    Shadow shadow;
    memory.round(shadow, true);
    EXPECT_EQ(count_differences(target.pid(), shadow), 0u);
  }
}

TEST(Tracker, a_page_that_could_not_be_read_is_read_again) {
  Target target;
  resources::FileIds ids;
  TaskMemory memory(target.pid(), target.pid(), target.inject(), ids);
  auto failing = std::make_unique<FailingReader>(target.pid());
  FailingReader& reader = *failing;
  memory.read_by(std::move(failing));
  Shadow shadow;
  for (int round = 0; round < 3; round++) memory.round(shadow, false);
  EXPECT_GT(reader.failed().size(), 10u);
  memory.look();
  target.freeze();
  reader.once = false;
  memory.round(shadow, true);
  EXPECT_EQ(count_differences(target.pid(), shadow), 0u);
}

TEST(Tracker, a_page_that_can_never_be_read_is_an_error_in_the_end) {
  Target target;
  resources::FileIds ids;
  TaskMemory memory(target.pid(), target.pid(), target.inject(), ids);
  std::uint64_t stack = 0;
  for (const proc::Vma& vma : proc::Reader(target.pid()).maps())
    if (vma.kind == proc::VmaName::stack) stack = vma.end - page_size;
  auto failing = std::make_unique<FailingReader>(target.pid());
  failing->for_good = stack;
  memory.read_by(std::move(failing));
  Shadow shadow;
  memory.round(shadow, false);
  memory.look();
  target.freeze();
  try {
    memory.round(shadow, true);
    FAIL() << "the page at " << std::hex << stack << " is missing";
  } catch (const Error& e) {
    EXPECT_NE(e.message().find(fmt::format("memory at {:#x}", stack)), std::string::npos) << e.message();
  }
}

}  // namespace
}  // namespace godwit::engine
