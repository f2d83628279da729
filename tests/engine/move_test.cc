// Engine jobs spoken to as an agent would: moves between two PID namespaces.

#include "tests/engine/job_fixture.h"

#include "common/base/check.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <sstream>
#include <thread>

#include <sys/mman.h>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

TEST_F(JobTest, moves_a_running_process_between_namespaces) {
  move([this](int) { ASSERT_TRUE(goes_on()); });
  expect_undisturbed();
}

TEST_F(JobTest, thaws_what_it_froze_and_goes_on_tracking) {
  Jobs jobs(spool_);
  begin(jobs);
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  ASSERT_TRUE(jobs.ask(jobs.source, freeze(1, source_cgroup_)).has_frozen());
  Command thaw;
  thaw.mutable_thaw();
  ASSERT_TRUE(jobs.source.ask(thaw).has_done());
  expect_undisturbed();
  ASSERT_TRUE(jobs.ask(jobs.source, round(2)).has_round_done());
  expect_arrival(jobs, jobs.ask(jobs.source, freeze(3, source_cgroup_)));
  expect_undisturbed();
}

TEST_F(JobTest, a_taken_pid_is_named) {
  Jobs jobs(spool_);
  ASSERT_TRUE(survey(jobs.source).has_surveyed());
  ASSERT_TRUE(prepare(jobs.destination, destination_cgroup_, home_.init()).has_done());  // where it runs still
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  Command c;
  c.mutable_finish()->set_sequence(1'000'000);
  try {
    const Event answer = jobs.ask(jobs.destination, c);  // or it has failed before it was asked
    EXPECT_EQ(answer.failure().code(), name(Errc::already_exists)) << answer.failure().message();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::already_exists) << e.message();
  }
  expect_undisturbed();
}

class ExecTest : public JobTest {
  void be_target() override {
    std::thread([this] {
      while (::access(dir_.path("exec").c_str(), F_OK) != 0) ::usleep(2000);
      ::execl("/usr/bin/python3", "python3", "-uc",
              "import time\nn = 0\nwhile True:\n  print('python', n)\n  n += 1\n  time.sleep(0.01)", nullptr);
      ::_exit(1);
    }).detach();
    count();
  }
};

TEST_F(ExecTest, a_program_run_between_two_rounds_is_what_arrives) {
  move([this](int round) {
    if (round != 0) return;
    write_file(dir_.path("exec"), "", 0644);
    ASSERT_TRUE(wait_for([&] { return contents(dir_.path("out")).find("python 3\n") != std::string::npos; }));
  });
  expect_undisturbed();
  // It counts on: its own memory came along, not a fresh start of it.
  const std::string out = contents(dir_.path("out"));
  std::istringstream lines(out.substr(out.find("python")));
  std::string word;
  for (long expected = 0, n = 0; lines >> word >> n; expected++) ASSERT_EQ(n, expected) << out;
}

// Maps, unmaps, grows, protects and fills memory all the time, and says so when something is not as it left it.
class RemapTest : public JobTest {
  struct Area {
    char* at = nullptr;
    std::size_t pages = 0;
    char fill = 0;
    bool writable = false;
  };
  static bool holds(const Area& area) {
    for (std::size_t i = 0; i < area.pages * page_size; i++)
      if (area.at[i] != area.fill) return false;
    return true;
  }
  void be_target() override {
    std::vector<Area> areas;
    std::mt19937 random(7);
    for (long n = 0;; n++) {
      const std::size_t pages = 1 + random() % 64;
      if (areas.size() < 40 || random() % 3 == 0) {
        Area& a = areas.emplace_back(Area{.pages = pages, .fill = static_cast<char>(1 + n % 100), .writable = true});
        a.at = static_cast<char*>(
            ::mmap(nullptr, pages * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        std::memset(a.at, a.fill, pages * page_size);
      }
      const std::size_t which = random() % areas.size();
      Area& a = areas[which];
      bool bad = !holds(a);
      switch (random() % 4) {
        case 0:
          ::munmap(a.at, a.pages * page_size);
          areas.erase(areas.begin() + static_cast<std::ptrdiff_t>(which));
          break;
        case 1: {
          if (!a.writable) break;
          void* const at = ::mremap(a.at, a.pages * page_size, (a.pages + pages) * page_size, MREMAP_MAYMOVE);
          if (at == MAP_FAILED) {
            bad |= errno != EFAULT;
            bad = true;
            break;
          }
          a.at = static_cast<char*>(at);
          std::memset(a.at + a.pages * page_size, a.fill, pages * page_size);
          a.pages += pages;
          break;
        }
        case 2:
          a.writable = !a.writable;
          ::mprotect(a.at, a.pages * page_size, a.writable ? PROT_READ | PROT_WRITE : PROT_READ);
          break;
        default:
          if (a.writable) std::memset(a.at, a.fill = static_cast<char>(1 + random() % 100), a.pages * page_size);
      }
      if (n % 16 == 0)
        for (const Area& each : areas) bad |= !holds(each);
      char line[64];
      const int length = std::snprintf(line, sizeof line, "%ld%s\n", n, bad ? " bad area" : "");
      if (::write(1, line, static_cast<std::size_t>(length)) != length) ::_exit(1);
      ::usleep(1000);
    }
  }
};

TEST_F(RemapTest, mappings_that_change_between_rounds_arrive_as_they_are) {
  move([this](int) { ASSERT_TRUE(goes_on()); });
  expect_undisturbed();
}

// Makes one mapping of two that were apart when they were first sent, and then needs it to be one.
class MergeTest : public JobTest {
 protected:
  static constexpr std::size_t part = 8 * page_size;

  static bool holds(const char* at, std::size_t size, char fill) {
    return std::all_of(at, at + size, [&](char c) { return c == fill; });
  }
  void be_target() override {
    char* at = static_cast<char*>(
        ::mmap(nullptr, 3 * part, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    std::memset(at, 'a', part);
    ::munmap(at + part, part);
    std::memset(at + 2 * part, 'c', part);
    bool merged = false, moved = false, bad = false;
    for (long n = 0;; n++) {
      if (!merged && ::access(dir_.path("merge").c_str(), F_OK) == 0) {
        bad |= ::mmap(at + part, part, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED;
        std::memset(at + part, 'b', part);
        merged = true;
      }
      if (!moved && ::access(dir_.path("move").c_str(), F_OK) == 0) {
        void* const to = ::mremap(at, 3 * part, 4 * part, MREMAP_MAYMOVE);
        bad |= to == MAP_FAILED;
        if (to != MAP_FAILED) at = static_cast<char*>(to);
        moved = true;
      }
      bad |= !holds(at, part, 'a') || !holds(at + 2 * part, part, 'c') || (merged && !holds(at + part, part, 'b'));
      const std::string line =
          fmt::format("{}{}{}{}\n", n, merged ? " merged" : "", moved ? " moved" : "", bad ? " bad" : "");
      if (::write(1, line.data(), line.size()) != static_cast<ssize_t>(line.size())) ::_exit(1);
      ::usleep(2000);
    }
  }
  void expect_soon(const std::string& word) {
    write_file(dir_.path(word == "merged" ? "merge" : "move"), "", 0644);
    EXPECT_TRUE(wait_for([&] { return contents(dir_.path("out")).find(word) != std::string::npos; }));
  }
};

TEST_F(MergeTest, what_the_kernel_has_merged_since_is_one_mapping) {
  move([this](int round) {
    if (round == 0) expect_soon("merged");
  });
  expect_soon("moved");
  expect_undisturbed();
}

TEST_F(MergeTest, also_when_it_was_merged_last) {
  move([this](int round) {
    if (round == 2) expect_soon("merged");
  });
  expect_soon("moved");
  expect_undisturbed();
}

class ScratchTest : public JobTest {
 protected:
  static constexpr std::size_t size = 128 * page_size;

  void be_target() override {
    char* at = nullptr;
    for (long n = 0;; n++) {
      if (!at && ::access(dir_.path("map").c_str(), F_OK) == 0) {
        const auto wanted = std::stoull(contents(dir_.path("map")), nullptr, 16);
        at = static_cast<char*>(::mmap(reinterpret_cast<void*>(wanted), size, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
        if (at == MAP_FAILED) ::_exit(1);
        std::memset(at, 'm', size);
      }
      bool bad = false;
      for (std::size_t i = 0; at && i < size; i++) bad |= at[i] != 'm';
      char line[64];
      const int length = std::snprintf(line, sizeof line, "%ld%s%s\n", n, at ? " mapped" : "", bad ? " bad" : "");
      if (::write(1, line, static_cast<std::size_t>(length)) != length) ::_exit(1);
      ::usleep(5000);
    }
  }
  // Where the engine has its own memory in the process that it builds; 0: not there yet.
  std::uint64_t scratch() {
    std::istringstream procs(contents(destination_cgroup_.path() + "/cgroup.procs"));  // its helper's, too
    for (long pid = 0; procs >> pid;) {
      std::istringstream maps(contents(fmt::format("/proc/{}/maps", pid)));
      for (std::string line; std::getline(maps, line);)
        if (line.find(" rwxp ") != std::string::npos) return std::stoull(line, nullptr, 16);
    }
    return 0;
  }
};

TEST_F(ScratchTest, memory_mapped_where_the_engine_has_its_own_makes_that_move) {
  move([this](int round) {
    if (round != 0) return;
    ASSERT_TRUE(wait_for([&] { return scratch() != 0; }));
    write_file(dir_.path("map.draft"), fmt::format("{:x}", scratch()), 0644);
    ASSERT_EQ(::rename(dir_.path("map.draft").c_str(), dir_.path("map").c_str()), 0);
    ASSERT_TRUE(wait_for([&] { return contents(dir_.path("out")).find("mapped") != std::string::npos; }));
  });
  expect_undisturbed();
  EXPECT_TRUE(contents(dir_.path("out")).ends_with("mapped\n"));
}

}  // namespace
}  // namespace godwit::engine::test
