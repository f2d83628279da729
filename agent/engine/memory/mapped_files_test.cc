// What is mapped of a file whose path leads to another one by now: a running program replaces files, and a layout is a
// while old when it is applied.
#include "agent/engine/memory/address_space.h"

#include "agent/engine/ptrace/stop.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/image/vma_status.h"
#include "common/proc/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <string>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t start = 0x10000000, scratch_at = 0x20000000;

// A process that stands still, with room for mappings at `start`.
class Standing {
 public:
  Standing() {
    pid_ = check(::fork(), "fork");
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) ::pause();
    }
    pidfd_.reset(static_cast<int>(check(::syscall(SYS_pidfd_open, pid_, 0), "open a process")));
    trace(PTRACE_SEIZE, pid_, 0, PTRACE_O_TRACESYSGOOD, "seize");
    trace(PTRACE_INTERRUPT, pid_, 0, 0, "interrupt");
    wait_stop(pid_);
  }
  ~Standing() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }
  RemoteAddr syscall_instruction() const {
    for (const proc::Vma& vma : proc::Reader(pid_).maps())
      if (vma.kind == proc::VmaName::vdso)
        return find_syscall_instruction(pid_, RemoteAddr{vma.start}, RemoteAddr{vma.end});
    fail(Errc::internal, "no vdso");
  }

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

class MappedFilesTest : public testing::Test {
 protected:
  MappedFilesTest() { ::mkdtemp(directory_.data()); }
  ~MappedFilesTest() override { std::filesystem::remove_all(directory_); }

  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  void write(const std::string& name, char content) const {
    std::ofstream(path(name)) << std::string(2 * page_size, content);
  }
  void replace(char content) const {
    write("next", content);
    std::filesystem::rename(path("next"), path("file"));
  }
  void apply(std::uint64_t pages = 2) {
    image::VmaEntry e;
    e.set_start(start);
    e.set_end(start + pages * page_size);
    e.set_prot(PROT_READ | PROT_WRITE);
    e.set_flags(MAP_PRIVATE);
    e.set_status(image::vma_status::regular | image::vma_status::file_private);
    e.set_shmid(7);
    space_.apply({e}, [&](std::uint64_t) { return MappedFile{.path = path("file")}; });
  }
  char at(std::uint64_t address) const {
    char c = 0;
    pread_exact(memory_.get(), std::as_writable_bytes(std::span(&c, 1)), static_cast<off_t>(address));
    return c;
  }

  std::string directory_ = "/tmp/godwit-mapped-XXXXXX";
  Standing standing_;
  RemoteSyscalls remote_{standing_.pid(), standing_.pid(), standing_.syscall_instruction()};
  Scratch scratch_{remote_, RemoteAddr{scratch_at}};
  RestoredSegments segments_{0, [](const SegmentSpec&) -> RestoredSegments::Made { return {}; }};
  AddressSpace space_{remote_, scratch_.address(), standing_.pidfd(), segments_, {}};
  UniqueFd memory_ = open_file(fmt::format("/proc/{}/mem", standing_.pid()), O_RDONLY);
};

TEST_F(MappedFilesTest, another_file_at_the_path_is_mapped_instead) {
  replace('a');
  apply();
  replace('b');
  apply();
  EXPECT_EQ(at(start), 'b');
}

// The source has written them in the mapping that it has, and does not send them again.
TEST_F(MappedFilesTest, pages_that_were_written_stay) {
  replace('a');
  apply();
  const std::array page = {pagewire::Run{start + page_size, 1}};
  space_.fill(page, std::vector(page_size, std::byte{'w'}));
  replace('b');
  apply();
  EXPECT_EQ(at(start), 'b');
  EXPECT_EQ(at(start + page_size), 'w');
}

TEST_F(MappedFilesTest, a_file_that_is_removed_stays_mapped) {
  replace('a');
  apply();
  std::filesystem::remove(path("file"));
  apply();
  EXPECT_EQ(at(start), 'a');
  space_.finish({});
}

TEST_F(MappedFilesTest, a_file_that_comes_late_is_mapped) {
  apply();
  replace('a');
  apply();
  EXPECT_EQ(at(start), 'a');
}

// The source has made the file anew and not filled it yet.
class EmptyFileTest : public MappedFilesTest {
 protected:
  EmptyFileTest() {
    write("file", 0);
    apply();
  }
  void write(const std::string& name, std::size_t pages) const {
    std::ofstream(path(name)) << std::string(pages * page_size, 'f');
  }
  void fill(std::uint64_t page, std::uint64_t pages = 1) {
    const std::array runs = {pagewire::Run{start + page * page_size, pages}};
    space_.fill(runs, std::vector(pages * page_size, std::byte{'w'}));
  }
};

TEST_F(EmptyFileTest, pages_wait_until_it_is_filled) {
  fill(1);
  write("file", 2);
  apply();
  EXPECT_EQ(at(start), 'f');
  EXPECT_EQ(at(start + page_size), 'w');
}

TEST_F(EmptyFileTest, pages_wait_also_for_another_file) {
  fill(1);
  write("next", 2);
  std::filesystem::rename(path("next"), path("file"));
  apply();
  EXPECT_EQ(at(start), 'f');
  EXPECT_EQ(at(start + page_size), 'w');
}

TEST_F(EmptyFileTest, what_has_a_place_is_written_at_once) {
  write("file", 1);
  fill(0, 2);
  EXPECT_EQ(at(start), 'w');
  write("file", 2);
  space_.finish(space_.layout());
  EXPECT_EQ(at(start + page_size), 'w');
}

TEST_F(EmptyFileTest, the_newest_content_of_a_page_stays) {
  fill(1);
  write("file", 2);
  const std::array run = {pagewire::Run{start + page_size, 1}};
  space_.fill(run, std::vector(page_size, std::byte{'n'}));
  apply();
  EXPECT_EQ(at(start + page_size), 'n');
}

TEST_F(EmptyFileTest, pages_that_are_dropped_do_not_wait) {
  fill(1);
  const std::array run = {pagewire::Run{start + page_size, 1}};
  space_.drop(run);
  write("file", 2);
  apply();
  EXPECT_EQ(at(start + page_size), 'f');
}

TEST_F(EmptyFileTest, a_file_that_stays_short_is_named) {
  fill(1);
  try {
    space_.finish(space_.layout());
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::not_found);
    EXPECT_THAT(e.message(),
                testing::HasSubstr(fmt::format("{} ends before its page at {:#x}", path("file"), start + page_size)));
  }
}

// Who may not write (EIO) is told apart by it (restore/directory_pages.cc).
TEST_F(MappedFilesTest, what_is_of_no_file_does_not_wait) {
  image::VmaEntry e;
  e.set_start(start);
  e.set_end(start + page_size);
  e.set_prot(PROT_READ);
  e.set_flags(MAP_PRIVATE | MAP_ANONYMOUS);
  e.set_status(image::vma_status::regular | image::vma_status::anon_private);
  space_.apply({e}, {});
  space_.fill_without_calls();
  remote_.call("unmap", SYS_munmap, start, page_size);
  const std::array page = {pagewire::Run{start, 1}};
  try {
    space_.fill(page, std::vector(page_size, std::byte{'w'}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.sys_errno(), EIO);
  }
}

// The first page was mapped before, the second after the exchange.
TEST_F(MappedFilesTest, both_parts_of_a_mapping_that_grew_are_of_one_file) {
  replace('a');
  apply(1);
  replace('b');
  apply(2);
  EXPECT_EQ(at(start), 'b');
  EXPECT_EQ(at(start + page_size), 'b');
}

}  // namespace
}  // namespace godwit::engine
