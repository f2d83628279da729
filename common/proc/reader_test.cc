#include "common/proc/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <thread>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

namespace godwit::proc {
namespace {

using namespace std::chrono_literals;
using testing::Contains;

Errc errc_of(auto&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.errc();
  }
  ADD_FAILURE() << "no error";
  return Errc::internal;
}

const Vma* find(const std::vector<Vma>& vmas, const void* address) {
  const auto at = reinterpret_cast<std::uint64_t>(address);
  for (const Vma& vma : vmas)
    if (vma.start <= at && at < vma.end) return &vma;
  return nullptr;
}

TEST(Reader, understands_every_file_of_this_process) {
  const Reader self(::getpid());
  EXPECT_EQ(self.stat().pid, ::getpid());
  EXPECT_EQ(self.stat().ppid, ::getppid());
  EXPECT_EQ(self.status().uid.effective, ::geteuid());
  EXPECT_EQ(self.status().tgid, ::getpid());
  EXPECT_FALSE(self.maps().empty());
  EXPECT_FALSE(self.smaps().empty());
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  EXPECT_EQ(self.limits()[RLIMIT_NOFILE], (Limit{files.rlim_cur, files.rlim_max}));
  EXPECT_FALSE(self.mountinfo().empty());
  EXPECT_FALSE(self.cgroup().empty());
  EXPECT_GT(Reader(::getpid(), ::gettid()).sched().exec_start_ns, 0u);
  EXPECT_EQ(self.comm(), self.stat().comm);
  EXPECT_EQ(self.auxv().at(self.auxv().size() - 2), 0u);
  EXPECT_THAT(self.threads(), Contains(::gettid()));
  EXPECT_FALSE(self.link("exe").empty());
  self.personality();
  self.oom_score_adj();
}

TEST(Reader, understands_every_process_of_this_machine) {
  for (const pid_t pid : all_pids()) {
    try {
      const Reader reader(pid);
      reader.stat();
      reader.status();
      reader.maps();
      reader.timers();
      for (const int fd : reader.fds()) {
        try {
          reader.fdinfo(fd);
        } catch (const Error& error) {
          if (error.errc() != Errc::not_found) throw;  // closed meanwhile
        }
      }
    } catch (const Error& error) {
      const bool more_privileged = error.sys_errno() == EACCES || error.sys_errno() == EPERM;
      EXPECT_TRUE(more_privileged || error.errc() == Errc::target_gone) << error.what();
    }
  }
}

TEST(Reader, sees_the_kinds_of_mappings_as_they_were_made) {
  const std::size_t size = 2 * 4096;
  void* anon = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  void* shared = ::mmap(nullptr, size, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  const UniqueFd memfd(check(::memfd_create("a \n b", MFD_CLOEXEC), "memfd_create"));
  ASSERT_EQ(::ftruncate(memfd.get(), size), 0);
  void* mem = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, memfd.get(), 4096);
  const bool named = ::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, anon, size, "pool of things") == 0;

  const std::vector<Vma> vmas = Reader(::getpid()).maps();
  ASSERT_NE(find(vmas, shared), nullptr);
  EXPECT_TRUE(find(vmas, shared)->shared);
  EXPECT_EQ(find(vmas, shared)->name, "/dev/zero");
  EXPECT_TRUE(find(vmas, shared)->deleted);
  ASSERT_NE(find(vmas, mem), nullptr);
  EXPECT_EQ(find(vmas, mem)->name, "/memfd:a \n b");
  EXPECT_EQ(find(vmas, mem)->offset, 4096u);
  if (named) {
    EXPECT_EQ(find(vmas, anon)->name, "pool of things");
    EXPECT_EQ(find(vmas, anon)->kind, VmaName::anon);
  }
  ::munmap(anon, size);
  ::munmap(shared, size);
  ::munmap(mem, size);
}

TEST(Reader, sees_descriptors_as_they_are) {
  const UniqueFd event(check(::eventfd(41, EFD_SEMAPHORE | EFD_CLOEXEC), "eventfd"));
  const UniqueFd poll(check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
  epoll_event watch{.events = EPOLLIN | EPOLLET, .data = {.u64 = 0xfeedfacecafebeef}};
  ASSERT_EQ(::epoll_ctl(poll.get(), EPOLL_CTL_ADD, event.get(), &watch), 0);

  const Reader self(::getpid());
  EXPECT_THAT(self.fds(), Contains(event.get()));
  EXPECT_EQ(self.fd_link(event.get()), "anon_inode:[eventfd]");
  const Fdinfo info = self.fdinfo(event.get());
  ASSERT_TRUE(info.eventfd);
  EXPECT_EQ(info.eventfd->count, 41u);
  EXPECT_EQ(info.flags, static_cast<std::uint32_t>(O_RDWR | O_CLOEXEC));
  const Fdinfo watched = self.fdinfo(poll.get());
  ASSERT_EQ(watched.epoll.size(), 1u);
  EXPECT_EQ(watched.epoll[0].fd, event.get());
  EXPECT_EQ(watched.epoll[0].data, 0xfeedfacecafebeefu);
  EXPECT_EQ(watched.epoll[0].events & (EPOLLIN | EPOLLET), EPOLLIN | EPOLLET);
  EXPECT_EQ(errc_of([&] { self.fdinfo(987654); }), Errc::not_found);
}

TEST(Reader, finds_children_and_notices_that_they_are_gone) {
  const pid_t child = check(::fork(), "fork");
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  const Reader reader(child);
  EXPECT_THAT(Reader(::getpid()).children(), Contains(child));
  EXPECT_THAT(children_by_parent(::getpid()), Contains(child));
  ::kill(child, SIGKILL);
  siginfo_t info;
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(reader.stat().state, 'Z');
  EXPECT_EQ(errc_of([&] { reader.link("exe"); }), Errc::target_gone);
  EXPECT_EQ(errc_of([&] { reader.link("ns/ipc"); }), Errc::target_gone);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_EQ(errc_of([&] { reader.stat(); }), Errc::target_gone);
  EXPECT_EQ(errc_of([&] { reader.link("exe"); }), Errc::target_gone);
  EXPECT_EQ(errc_of([&] { Reader again(child); }), Errc::target_gone);
}

[[noreturn]] void make_short_threads() {
  std::vector<std::thread> makers;
  for (int i = 0; i < 4; i++)
    makers.emplace_back([] {
      for (;;) std::thread([] { ::usleep(50); }).join();
    });
  for (;;) ::pause();
}

// The kernel denies their links for a moment.
TEST(Reader, knows_threads_that_end_meanwhile_as_gone) {
  const pid_t child = check(::fork(), "fork");
  if (child == 0) make_short_threads();
  const Reader process(child);
  unsigned ended = 0;
  for (const auto end = std::chrono::steady_clock::now() + 1s; std::chrono::steady_clock::now() < end;)
    for (const pid_t tid : process.threads()) try {
        if (tid == child) continue;
        const Reader thread(child, tid);
        for (int i = 0; i < 20; i++) thread.link("ns/cgroup");
      } catch (const Error& error) {
        ended++;
        EXPECT_EQ(error.errc(), Errc::target_gone) << error.what();
      }
  EXPECT_GT(ended, 0u);
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
}

// Its status is there for another moment, and says little.
TEST(Reader, knows_a_process_that_is_reaped_while_its_status_is_read_as_gone) {
  for (int i = 0; i < 500; i++) {
    const pid_t child = check(::fork(), "fork");
    if (child == 0) ::_exit(0);
    const Reader reader(child);
    std::thread reaping([child] { ::waitpid(child, nullptr, 0); });
    const auto read_on = [&] {
      for (;;) EXPECT_EQ(reader.status().pid, child);
    };
    EXPECT_EQ(errc_of(read_on), Errc::target_gone);
    reaping.join();
  }
}

// It may be reaped between any two calls of a reading.
TEST(Reader, knows_a_process_that_is_reaped_while_it_is_listed_as_gone) {
  for (int i = 0; i < 500; i++) {
    const pid_t child = check(::fork(), "fork");
    if (child == 0) ::_exit(0);
    std::thread reaping([child] { ::waitpid(child, nullptr, 0); });
    const auto list = [child] {
      for (;;) Reader(child).threads();
    };
    EXPECT_EQ(errc_of(list), Errc::target_gone);
    reaping.join();
  }
}

}  // namespace
}  // namespace godwit::proc
