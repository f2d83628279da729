// The shadow test: a hostile target is tracked over many rounds while it runs, then frozen; what was emitted must be,
// page by page, what it has. Run in a sanitized build, the target is a sparse giant as well (terabytes of shadow
// memory).
#include "agent/engine/memory/hostile_target.h"
#include "agent/engine/memory/task_memory.h"

#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/image/test_dir.h"
#include "common/proc/reader.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <linux/userfaultfd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <optional>
#include <unordered_map>

#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

// A receiver that keeps everything in memory.
class Shadow : public PageSink {
 public:
  std::span<std::byte> buffer() override { return buffer_; }
  std::uint64_t pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override {
    const std::byte* from = buffer_.data();
    for (const pagewire::Run& r : runs)
      for (std::uint64_t i = 0; i < r.pages; i++, from += page_size)
        std::memcpy(content_[object][r.address + i * page_size].data(), from, page_size);
    return ++sequence_;
  }
  std::uint64_t zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override {
    for (const pagewire::Run& r : runs)
      for (std::uint64_t i = 0; i < r.pages; i++) content_[object][r.address + i * page_size].fill(std::byte{});
    return ++sequence_;
  }
  std::uint64_t drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override {
    for (const pagewire::Run& r : runs)
      for (std::uint64_t i = 0; i < r.pages; i++) content_[object].erase(r.address + i * page_size);
    return ++sequence_;
  }
  std::uint64_t file(std::string_view, std::string_view) override { return ++sequence_; }
  std::uint64_t end_round() override { return ++sequence_; }
  void set_round(std::uint32_t) override {}
  std::uint64_t last_sequence() const override { return sequence_; }

  const std::array<std::byte, page_size>* find(pagewire::ObjectId object, std::uint64_t page) const {
    const auto o = content_.find(object);
    if (o == content_.end()) return nullptr;
    const auto p = o->second.find(page);
    return p == o->second.end() ? nullptr : &p->second;
  }
  void add_held(pagewire::ObjectId object, std::uint64_t start, std::uint64_t end, PageSet& into) const {
    for (const auto& [page, content] : content_.at(object))
      if (page >= start && page < end) into.add(page, page + page_size);
  }

 private:
  std::vector<std::byte> buffer_ = std::vector<std::byte>(pagewire::max_payload);
  std::unordered_map<pagewire::ObjectId, std::unordered_map<std::uint64_t, std::array<std::byte, page_size>>> content_;
  std::uint64_t sequence_ = 0;
};

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

// Fails to read every sixteenth page when it is first asked for, as memory that is short might; or one for good.
class FailingReader : public PageReader {
 public:
  explicit FailingReader(pid_t pid)
      : mem_(open_file(fmt::format("/proc/{}/mem", pid), O_RDONLY)), reader_(pid, mem_.get()) {}
  void read(std::vector<pagewire::Run>& runs, std::span<std::byte> into) override {
    std::vector<pagewire::Run> kept;
    for (const pagewire::Run& r : runs)
      for (std::uint64_t page = r.address; page < r.address + r.pages * page_size; page += page_size) {
        const bool fails = for_good ? page == for_good : once && page / page_size % 16 == 0 && !failed_.contains(page);
        if (fails)
          failed_.add(page, page + page_size);
        else if (!kept.empty() && kept.back().address + kept.back().pages * page_size == page)
          kept.back().pages++;
        else
          kept.push_back({page, 1});
      }
    runs = kept;
    if (!runs.empty()) reader_.read(runs, into);
    if (runs.size() == kept.size()) return;
    for (const pagewire::Run& r : kept) failed_.add(r.address, r.address + page_size);
    for (const pagewire::Run& r : runs) failed_.remove(r.address, r.address + r.pages * page_size);
  }
  bool once = true;
  std::uint64_t for_good = 0;
  const PageSet& failed() const { return failed_; }

 private:
  UniqueFd mem_;
  ProcessReader reader_;
  PageSet failed_;
};

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

int open_userfaultfd() {
  const int fd = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = 1 << 12 | 1 << 13 | 1 << 15;  // as inject_userfaultfd
  return ::ioctl(fd, UFFDIO_API, &api) == 0 ? fd : -1;
}

// A descriptor of another process.
UniqueFd taken_over(pid_t pid, std::uint64_t number) {
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), number, 0)));
}

// As memory that the hardware has lost: whoever touches it gets SIGBUS.
long poison_a_page(char* at) {
  const UniqueFd userfaultfd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1)));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = 1 << 14;  // UFFD_FEATURE_POISON, 6.6+
  uffdio_register request{};
  request.range = {reinterpret_cast<std::uint64_t>(at), page_size};
  request.mode = UFFDIO_REGISTER_MODE_MISSING;
  struct {
    uffdio_range range;
    std::uint64_t mode = 0;
    std::int64_t updated = 0;
  } poison{request.range};
  return ::ioctl(userfaultfd.get(), UFFDIO_API, &api) == 0 &&
                 ::ioctl(userfaultfd.get(), UFFDIO_REGISTER, &request) == 0 &&
                 ::ioctl(userfaultfd.get(), _IOWR(UFFDIO, 8, decltype(poison)), &poison) == 0
             ? 0
             : -1;
}

TEST(Tracker, poisoned_memory_is_an_error) {
  char* const lost =
      static_cast<char*>(::mmap(nullptr, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_EQ(poison_a_page(lost), 0) << std::strerror(errno);
  const pid_t pid = ::fork();
  if (pid == 0)
    for (;;) ::pause();
  resources::FileIds ids;
  TaskMemory memory(pid, pid, UniqueFd{}, ids);
  Shadow shadow;
  EXPECT_NO_THROW(memory.round(shadow, false));
  std::string said;
  try {
    memory.round(shadow, true);
  } catch (const Error& e) {
    said = e.message();
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  ::munmap(lost, page_size);
  EXPECT_NE(said.find(fmt::format("memory at {:#x}", reinterpret_cast<std::uint64_t>(lost))), std::string::npos)
      << said;
}

// A page of a file mapping that was written, given back, and is now past the end of the file: a marker is left of it.
TEST(Tracker, pages_past_the_end_of_a_file_are_left_out) {
  auto [their_end, our_end] = make_socketpair(AF_UNIX, SOCK_STREAM);
  const pid_t pid = ::fork();
  if (pid == 0) {
    const int file = ::memfd_create("short", MFD_CLOEXEC);
    if (::ftruncate(file, 2 * page_size) != 0) ::_exit(1);
    void* const at = ::mmap(nullptr, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    char* const beyond = static_cast<char*>(at) + page_size;
    beyond[0] = 1;
    const int userfaultfd = open_userfaultfd();
    char byte = 0;
    if (::write(their_end.get(), &userfaultfd, sizeof userfaultfd) < 0 || ::read(their_end.get(), &byte, 1) != 1)
      ::_exit(1);
    if (::madvise(beyond, page_size, MADV_DONTNEED) != 0 || ::ftruncate(file, page_size) != 0) ::_exit(1);
    ::write(their_end.get(), &byte, 1) == 1 ? ::pause() : 0;
    ::_exit(1);
  }
  their_end.reset();
  int number = -1;
  ASSERT_EQ(::read(our_end.get(), &number, sizeof number), static_cast<ssize_t>(sizeof number));
  UniqueFd userfaultfd = taken_over(pid, static_cast<std::uint64_t>(number));
  ASSERT_TRUE(userfaultfd);
  resources::FileIds ids;
  TaskMemory memory(pid, pid, std::move(userfaultfd), ids);
  auto noting = std::make_unique<FailingReader>(pid);
  FailingReader& reader = *noting;
  reader.once = false;
  memory.read_by(std::move(noting));
  Shadow shadow;
  memory.round(shadow, false);
  char byte = 0;
  ASSERT_EQ(::write(our_end.get(), &byte, 1), 1);
  ASSERT_EQ(::read(our_end.get(), &byte, 1), 1);
  EXPECT_NO_THROW(memory.round(shadow, true));
  EXPECT_EQ(reader.failed().size(), 1u);
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

// The receiver takes a file of another name for another one, and maps it anew.
TEST(Tracker, what_was_written_to_a_file_that_is_renamed_is_sent_again) {
  const image::TestDir dir;
  auto [their_end, our_end] = make_socketpair(AF_UNIX, SOCK_STREAM);
  const pid_t pid = ::fork();
  if (pid == 0) {
    const UniqueFd file = open_file(dir.path() + "/one", O_RDWR | O_CREAT, 0600);
    if (::ftruncate(file.get(), 2 * page_size) != 0) ::_exit(1);
    char* const at =
        static_cast<char*>(::mmap(nullptr, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file.get(), 0));
    at[page_size] = 1;
    const std::uint64_t said[] = {static_cast<std::uint64_t>(open_userfaultfd()),
                                  reinterpret_cast<std::uint64_t>(at) + page_size};
    if (::write(their_end.get(), said, sizeof said) == sizeof said) ::pause();
    ::_exit(1);
  }
  their_end.reset();
  std::uint64_t said[2]{};
  ASSERT_EQ(::read(our_end.get(), said, sizeof said), static_cast<ssize_t>(sizeof said));
  UniqueFd userfaultfd = taken_over(pid, said[0]);
  ASSERT_TRUE(userfaultfd);
  resources::FileIds ids;
  TaskMemory memory(pid, pid, std::move(userfaultfd), ids);
  const auto is_sent = [&] {
    Shadow shadow;
    memory.round(shadow, false);
    return shadow.find(pagewire::object_id(pagewire::ObjectType::task, static_cast<std::uint64_t>(pid)), said[1]) !=
           nullptr;
  };
  EXPECT_TRUE(is_sent());
  EXPECT_FALSE(is_sent()) << "nothing has happened";
  std::filesystem::rename(dir.path() + "/one", dir.path() + "/other");
  EXPECT_TRUE(is_sent());
  EXPECT_FALSE(is_sent()) << "it was sent again";
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

// By its name the second one may be the first, renamed; its pages are its own.
TEST(Tracker, what_was_written_to_a_file_is_not_owed_of_another_that_is_mapped_in_its_place) {
  const image::TestDir dir;
  auto [their_end, our_end] = make_socketpair(AF_UNIX, SOCK_STREAM);
  const pid_t pid = ::fork();
  if (pid == 0) {
    const auto map = [&](const char* name, char* place) {
      const UniqueFd file = open_file(dir.path() + name, O_RDWR | O_CREAT, 0600);
      if (::pwrite(file.get(), "content", 7, page_size) != 7) ::_exit(1);
      return static_cast<char*>(
          ::mmap(place, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | (place ? MAP_FIXED : 0), file.get(), 0));
    };
    char* const at = map("/one", nullptr);
    at[page_size] = 1;
    const std::uint64_t said[] = {static_cast<std::uint64_t>(open_userfaultfd()),
                                  reinterpret_cast<std::uint64_t>(at) + page_size};
    char byte = 0;
    if (::write(their_end.get(), said, sizeof said) != sizeof said || ::read(their_end.get(), &byte, 1) != 1 ||
        map("/other", at) != at || ::write(their_end.get(), &byte, 1) != 1)
      ::_exit(1);
    for (;;) ::pause();
  }
  their_end.reset();
  std::uint64_t said[2]{};
  ASSERT_EQ(::read(our_end.get(), said, sizeof said), static_cast<ssize_t>(sizeof said));
  UniqueFd userfaultfd = taken_over(pid, said[0]);
  ASSERT_TRUE(userfaultfd);
  resources::FileIds ids;
  TaskMemory memory(pid, pid, std::move(userfaultfd), ids);
  Shadow before, after;
  memory.round(before, false);
  const pagewire::ObjectId task = pagewire::object_id(pagewire::ObjectType::task, static_cast<std::uint64_t>(pid));
  EXPECT_NE(before.find(task, said[1]), nullptr);
  char byte = 0;
  ASSERT_EQ(::write(our_end.get(), &byte, 1), 1);
  ASSERT_EQ(::read(our_end.get(), &byte, 1), 1);
  memory.round(after, false);
  EXPECT_EQ(after.find(task, said[1]), nullptr) << "it is the file's own";
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

// A page that is moved to the end of a tracked mapping becomes one with it, and the tracker goes from both, but not its
// marks.
class MovedBeside : public testing::Test {
 protected:
  void SetUp() override {
    const auto map = [](char* at, std::size_t count, int protection, int how) {
      return static_cast<char*>(::mmap(at, count * page_size, protection, MAP_PRIVATE | MAP_ANONYMOUS | how, -1, 0));
    };
    base_ = map(nullptr, room, PROT_NONE, 0);
    ::munmap(base_, room * page_size);
    kept_ = map(base_ + 8 * page_size, pages, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE);
    moved_ = map(base_ + 32 * page_size, 1, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE);
    ASSERT_TRUE(kept_ != MAP_FAILED && moved_ != MAP_FAILED);
    std::memset(kept_, 1, pages * page_size);
    track();
    scan();
    ASSERT_EQ(scan().size(), 0u);
    char* const beside = kept_ + pages * page_size;
    ASSERT_EQ(::mremap(moved_, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED, beside), beside);
    kept_[0] = 2;
  }
  void TearDown() override { ::munmap(kept_, (pages + 1) * page_size); }

  // Two trackers of one mapping are refused: the one before goes first.
  void track() {
    tracker_.reset();
    UniqueFd userfaultfd(open_userfaultfd());
    ASSERT_TRUE(userfaultfd);
    tracker_.emplace(::getpid(), std::move(userfaultfd));
  }
  PageSet scan() {
    std::vector<proc::Vma> maps = proc::Reader(::getpid()).maps();
    const auto from = reinterpret_cast<std::uint64_t>(base_), to = from + room * page_size;
    std::erase_if(maps, [&](const proc::Vma& vma) { return vma.start < from || vma.end > to; });
    NotedChanges noted;
    tracker_->scan(maps, noted, {}, false);
    return noted.added();
  }
  void expect_writes_to_be_seen() {
    scan();
    kept_[0] = kept_[page_size] = 3;
    const PageSet written = scan();
    const auto at = reinterpret_cast<std::uint64_t>(kept_);
    EXPECT_TRUE(written.intersects(at, at + page_size));
    EXPECT_TRUE(written.intersects(at + page_size, at + 2 * page_size));
  }

  std::optional<Tracker> tracker_;

 private:
  static constexpr std::size_t pages = 4, room = 64;
  char *base_ = nullptr, *kept_ = nullptr, *moved_ = nullptr;
};

TEST_F(MovedBeside, is_seen_by_the_tracker_that_it_lost) { expect_writes_to_be_seen(); }

TEST_F(MovedBeside, is_seen_by_a_tracker_that_starts_over) {
  tracker_->forget();
  expect_writes_to_be_seen();
}

TEST_F(MovedBeside, is_seen_by_another_tracker) {
  track();
  expect_writes_to_be_seen();
}

}  // namespace
}  // namespace godwit::engine
