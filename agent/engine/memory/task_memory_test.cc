// Targets that do one thing each to what was sent of them.
#include "agent/engine/memory/task_memory.h"

#include "agent/engine/memory/failing_reader.h"
#include "agent/engine/memory/shadow_sink.h"
#include "agent/engine/memory/test_userfaultfd.h"
#include "common/base/check.h"
#include "common/image/test_dir.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

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

TEST(TaskMemory, that_is_poisoned_is_an_error) {
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

// Scratch memory is mapped while a stopped task is read, and is in no image.
TEST(TaskMemory, leaves_out_what_is_the_engines_own) {
  char* const apart = static_cast<char*>(::mmap(nullptr, 3 * page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  char* const ours = apart + page_size;
  ASSERT_EQ(::mprotect(ours, page_size, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
  *ours = 1;
  const pid_t pid = ::fork();
  if (pid == 0)
    for (;;) ::pause();
  const auto start = reinterpret_cast<std::uint64_t>(ours), end = start + page_size;
  resources::FileIds ids;
  TaskMemory memory(pid, pid, UniqueFd{}, ids);
  Shadow shadow;
  const auto described = [&] {
    image::MmEntry mm;
    memory.describe(mm);
    return std::ranges::any_of(mm.vmas(),
                               [&](const image::VmaEntry& vma) { return vma.start() < end && vma.end() > start; });
  };
  memory.leave_out(start, end);
  memory.round(shadow, false);
  EXPECT_TRUE(described()) << "a running task has none of the engine's";
  EXPECT_TRUE(memory.held().begin()->second->intersects(start, end));
  memory.round(shadow, true);
  EXPECT_FALSE(described());
  EXPECT_FALSE(memory.held().begin()->second->intersects(start, end));
  memory.leave_out(0, 0);
  memory.round(shadow, true);
  EXPECT_TRUE(described());
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  ::munmap(apart, 3 * page_size);
}

// A child with a userfaultfd of its own, by which it is tracked here. It names one of its pages, and does what it does
// to it when it is told to.
class TrackedChild {
 public:
  template <class Prepare, class Act>
  TrackedChild(Prepare prepare, Act act) {
    auto [theirs, ours] = make_socketpair(AF_UNIX, SOCK_STREAM);
    pid_ = check(::fork(), "fork");
    if (pid_ == 0) live(theirs.get(), prepare, act);
    ours_ = std::move(ours);
    theirs.reset();
    Said said;
    read_exact(ours_.get(), std::as_writable_bytes(std::span(&said, 1)));
    page = said.page;
    const UniqueFd pidfd(static_cast<int>(check(::syscall(SYS_pidfd_open, pid_, 0), "pidfd")));
    UniqueFd userfaultfd(static_cast<int>(
        check(::syscall(SYS_pidfd_getfd, pidfd.get(), said.userfaultfd, 0), "take its userfaultfd over")));
    memory = std::make_unique<TaskMemory>(pid_, pid_, std::move(userfaultfd), ids_);
  }
  ~TrackedChild() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  TrackedChild(const TrackedChild&) = delete;
  TrackedChild& operator=(const TrackedChild&) = delete;

  void act() {
    char byte = 0;
    ASSERT_EQ(::write(ours_.get(), &byte, 1), 1);
    ASSERT_EQ(::read(ours_.get(), &byte, 1), 1) << "it could not";
  }
  bool sends_page() {
    Shadow shadow;
    memory->round(shadow, false);
    return shadow.find(pagewire::object_id(pagewire::ObjectType::task, static_cast<std::uint64_t>(pid_)), page) !=
           nullptr;
  }
  pid_t pid() const { return pid_; }

  std::uint64_t page = 0;
  std::unique_ptr<TaskMemory> memory;

 private:
  struct Said {
    long userfaultfd = -1;
    std::uint64_t page = 0;
  };
  template <class Prepare, class Act>
  [[noreturn]] static void live(int end, Prepare prepare, Act act) {
    char* const page = prepare();
    const Said said{open_userfaultfd(), reinterpret_cast<std::uint64_t>(page)};
    char byte = 0;
    if (::write(end, &said, sizeof said) != sizeof said || ::read(end, &byte, 1) != 1 || !act(page) ||
        ::write(end, &byte, 1) != 1)
      ::_exit(1);
    for (;;) ::pause();
  }

  pid_t pid_ = 0;
  UniqueFd ours_;
  resources::FileIds ids_;
};

// Two pages of a file; the second one is written to.
char* map_privately(int file, char* place = nullptr) {
  return static_cast<char*>(
      ::mmap(place, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | (place ? MAP_FIXED : 0), file, 0));
}
char* write_to_second(char* at) {
  at[page_size] = 1;
  return at + page_size;
}
bool nothing(char*) { return true; }

// A page of a file mapping that was written, given back, and is now past the end of the file: a marker is left of it.
TEST(TaskMemory, leaves_out_pages_past_the_end_of_a_file) {
  const int file = ::memfd_create("short", MFD_CLOEXEC);
  ASSERT_EQ(::ftruncate(file, 2 * page_size), 0);
  TrackedChild child([&] { return write_to_second(map_privately(file)); },
                     [&](char* beyond) {
                       return ::madvise(beyond, page_size, MADV_DONTNEED) == 0 && ::ftruncate(file, page_size) == 0;
                     });
  auto noting = std::make_unique<FailingReader>(child.pid());
  FailingReader& reader = *noting;
  reader.once = false;
  child.memory->read_by(std::move(noting));
  Shadow shadow;
  child.memory->round(shadow, false);
  child.act();
  EXPECT_NO_THROW(child.memory->round(shadow, true));
  EXPECT_EQ(reader.failed().size(), 1u);
  ::close(file);
}

// The receiver takes a file of another name for another one, and maps it anew.
TEST(TaskMemory, sends_again_what_was_written_to_a_file_that_is_renamed) {
  const image::TestDir dir;
  const UniqueFd file = open_file(dir.path() + "/one", O_RDWR | O_CREAT, 0600);
  ASSERT_EQ(::ftruncate(file.get(), 2 * page_size), 0);
  TrackedChild child([&] { return write_to_second(map_privately(file.get())); }, nothing);
  EXPECT_TRUE(child.sends_page());
  EXPECT_FALSE(child.sends_page()) << "nothing has happened";
  std::filesystem::rename(dir.path() + "/one", dir.path() + "/other");
  EXPECT_TRUE(child.sends_page());
  EXPECT_FALSE(child.sends_page()) << "it was sent again";
}

// By its name the second one may be the first, renamed; its pages are its own.
TEST(TaskMemory, does_not_owe_what_was_written_to_a_file_of_another_that_is_mapped_in_its_place) {
  const image::TestDir dir;
  const auto make = [&](const char* name) {
    UniqueFd file = open_file(dir.path() + name, O_RDWR | O_CREAT, 0600);
    check(::pwrite(file.get(), "content", 7, page_size), "write to {}", name);
    return file;
  };
  const UniqueFd one = make("/one"), other = make("/other");
  TrackedChild child([&] { return write_to_second(map_privately(one.get())); },
                     [&](char* page) { return map_privately(other.get(), page - page_size) == page - page_size; });
  EXPECT_TRUE(child.sends_page());
  child.act();
  EXPECT_FALSE(child.sends_page()) << "it is the file's own";
}

}  // namespace
}  // namespace godwit::engine
