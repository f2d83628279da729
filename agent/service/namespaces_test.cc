// What of a process's namespaces keeps it where it is.
#include "agent/service/source_namespaces.h"
#include "common/base/check.h"
#include "common/base/fd.h"

#include <gtest/gtest.h>

#include <csignal>

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

namespace godwit::service {
namespace {

// A child in namespaces of its own, after `act`.
class Apart {
 public:
  template <class Act>
  Apart(int namespaces, Act act) {
    auto [from, to] = make_pipe();
    pid_ = check(::fork(), "fork");
    if (pid_ == 0) {
      const char said = ::unshare(namespaces) == 0 && act() ? 'y' : 'n';
      if (::write(to.get(), &said, 1) == 1) ::pause();
      ::_exit(1);
    }
    to.reset();
    char said = 0;
    check(::read(from.get(), &said, 1), "hear of the child");
    there_ = said == 'y';
  }
  ~Apart() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  bool there() const { return there_; }

 private:
  pid_t pid_ = 0;
  bool there_ = false;
};

bool nothing() { return true; }
bool own_mounts() { return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0; }
bool mounts_something() { return own_mounts() && ::mount("inside", "/tmp", "tmpfs", 0, nullptr) == 0; }

std::string refused(pid_t root, pid_t init, std::initializer_list<const char*> namespaces) {
  engine::Surveyed survey;
  for (const char* name : namespaces) survey.add_namespaces(name);
  refuse_namespaces(root, init, survey);
  std::string all;
  for (const engine::Refusal& r : survey.refusals()) all += r.reason() + "; ";
  return all;
}

TEST(Namespaces, one_of_a_process_by_itself_is_refused_whatever_it_is_for) {
  const Apart apart(CLONE_NEWUTS, nothing);
  if (!apart.there()) GTEST_SKIP();
  for (const char* name : {"net", "uts", "cgroup", "mnt", "ipc", "pid"})
    EXPECT_NE(refused(apart.pid(), 0, {name}).find(fmt::format("a {} namespace", name)), std::string::npos);
  EXPECT_EQ(refused(apart.pid(), 0, {}), "");
}

TEST(Namespaces, of_an_init_only_those_are_given_that_each_node_makes) {
  const Apart init(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS, own_mounts);
  if (!init.there()) GTEST_SKIP();
  EXPECT_EQ(refused(init.pid(), init.pid(), {"mnt", "ipc"}), "");
  EXPECT_NE(refused(init.pid(), init.pid(), {"uts"}).find("uts"), std::string::npos);
  EXPECT_NE(refused(init.pid(), ::getpid(), {"mnt"}).find("mnt"), std::string::npos);
}

TEST(Namespaces, a_mount_made_inside_is_refused_by_its_place) {
  const Apart init(CLONE_NEWNS, mounts_something);
  if (!init.there()) GTEST_SKIP();
  EXPECT_NE(refused(init.pid(), init.pid(), {"mnt"}).find("mounted at /tmp"), std::string::npos);
}

// What nobody sees any more at the host was mounted there when the workload began.
TEST(Namespaces, a_mount_that_the_host_has_dropped_is_not_one_made_inside) {
  struct statx st{};
  if (::statx(AT_FDCWD, "/proc", 0, 0x4000, &st) != 0 || (st.stx_mask & 0x4000) == 0) GTEST_SKIP() << "since 6.8";
  const Apart host(CLONE_NEWNS, [] {
    if (!own_mounts() || ::mount("early", "/tmp", "tmpfs", 0, nullptr) != 0) return false;
    return ::unshare(CLONE_NEWNS) == 0 && ::mount("proc", "/proc", "proc", 0, nullptr) == 0;
  });
  if (!host.there()) GTEST_SKIP();
  EXPECT_EQ(refused(host.pid(), host.pid(), {"mnt"}), "");
}

}  // namespace
}  // namespace godwit::service
