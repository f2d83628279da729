// Checks: seccomp filters that are the death of whoever makes a call that the program never makes, as what is injected
// into it is: of a process, of a child that has inherited some of them, and of a thread of it. As a tracer sees them,
// flags and all, they are what they were; and the first such call is the death of the child.

#include "tests/workloads/children.h"
#include "tests/workloads/seccomp.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>

using namespace godwit::workloads;

namespace {

constexpr char more = 'm', forbidden = 'f';
constexpr int error = 71;

struct Talk {
  int ask[2], tell[2];
  Talk() {
    must(pipe(ask), "pipe");
    must(pipe(tell), "pipe");
  }
  bool ask_for(char what) const { return write(ask[1], &what, 1) == 1; }
  // The next number; 0 when there is no answer.
  unsigned next() const {
    unsigned number = 0;
    if (!ask_for(more) || !readable(tell[0])) return 0;
    return read(tell[0], &number, sizeof number) == sizeof number ? number : 0;
  }
};

[[noreturn]] void count(const Talk& talk) {
  for (unsigned number = 1;; ++number) {
    char what = 0;
    if (syscall(SYS_read, talk.ask[0], &what, 1) != 1) syscall(SYS_exit_group, 1);
    if (what == forbidden) syscall(SYS_getppid);
    timespec moment{0, 1'000'000};
    syscall(SYS_nanosleep, &moment, nullptr);
    syscall(SYS_write, talk.tell[1], &number, sizeof number);
  }
}

void only_count(unsigned flags) {
  must(allow_only({SYS_read, SYS_write, SYS_nanosleep, SYS_restart_syscall, SYS_exit_group}, flags), "a deadly filter");
}

// Of a thread: programs and flags.
std::string filters_seen_by_tracer(pid_t tid) {
  if (ptrace(PTRACE_SEIZE, tid, 0, 0) != 0) return std::string("not traced: ") + strerror(errno);
  ptrace(PTRACE_INTERRUPT, tid, 0, 0);
  waitpid(tid, nullptr, __WALL);
  std::string all;
  for (unsigned long i = 0;; ++i) {
    sock_filter code[BPF_MAXINSNS];
    const long length = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, i, code);
    if (length < 0) break;
    struct {
      std::uint64_t number, flags;
    } metadata{i, 0};
    if (ptrace(static_cast<__ptrace_request>(0x420d) /* PTRACE_SECCOMP_GET_METADATA */, tid, sizeof metadata,
               &metadata) < 0)
      all += strerror(errno);
    std::uint64_t sum = 0;
    for (long k = 0; k < length; ++k)
      sum = mix(sum ^ (std::uint64_t{code[k].code} << 48 | std::uint64_t{code[k].jt} << 40 |
                       std::uint64_t{code[k].jf} << 32 | code[k].k));
    all += std::to_string(length) + " instructions " + std::to_string(sum) + " flags " +
           std::to_string(metadata.flags) + "; ";
  }
  ptrace(PTRACE_DETACH, tid, 0, 0);
  return all;
}

// Of a zombie, whose parent may not wait for it any more.
bool killed_by(pid_t pid, int signal) {
  const std::string stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t name_end = stat.rfind(") ");
  const std::size_t last = stat.rfind(' ');
  return name_end != std::string::npos && stat[name_end + 2] == 'Z' &&
         (std::stoi(stat.substr(last + 1)) & 0x7f) == signal;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const Talk with_process, with_child, with_thread;
  const rlimit no_core{0, 0};
  must(setrlimit(RLIMIT_CORE, &no_core), "setrlimit");
  const pid_t self = getpid();
  const pid_t process = must(fork(), "fork");
  if (process == 0) {
    begin_child(self);
    must(add_filter(SYS_getpgid, SECCOMP_RET_ERRNO | error, SECCOMP_FILTER_FLAG_LOG), "the first filter");
    const pid_t first = getpid();
    const pid_t child = must(fork(), "fork");
    if (child == 0) {
      begin_child(first);
      must(add_filter(SYS_getsid, SECCOMP_RET_ERRNO | error), "the child's filter");
      std::thread([&] {
        w.tell("thread", std::to_string(gettid()));
        only_count(0);
        count(with_thread);
      }).detach();
      await(w, "thread");
      only_count(SECCOMP_FILTER_FLAG_LOG);
      count(with_child);
    }
    w.tell("child", std::to_string(child));
    only_count(0);
    count(with_process);
  }
  await(w, "child");
  await(w, "thread");
  const pid_t child = std::stoi(read_file(w.path("child"))), thread = std::stoi(read_file(w.path("thread")));
  const std::pair<const char*, const Talk*> all[] = {
      {"process", &with_process}, {"child", &with_child}, {"thread", &with_thread}};
  for (unsigned i = 1; i <= 2; ++i)
    for (const auto& [name, talk] : all)
      if (talk->next() != i) give_up(name);
  std::string before[3];
  const pid_t tids[] = {process, child, thread};
  for (int i = 0; i < 3; ++i) before[i] = filters_seen_by_tracer(tids[i]);

  w.ready();
  w.wait_for_verify();
  for (int i = 0; i < 3; ++i) {
    const std::string now = filters_seen_by_tracer(tids[i]);
    w.check(now == before[i] && now.find("instructions") != std::string::npos,
            "the filters of the %s were %s and are %s", all[i].first, before[i].c_str(), now.c_str());
    const unsigned number = all[i].second->next();
    w.check(number == 3, "the %s counted %u", all[i].first, number);
  }
  with_thread.ask_for(forbidden);
  w.check(w.wait_until([&] { return killed_by(child, SIGSYS); }), "the child outlives a forbidden call");
  with_process.ask_for(forbidden);
  int status = 0;
  w.check(w.wait_until([&] { return waitpid(process, &status, WNOHANG) == process; }) && WIFSIGNALED(status) &&
              WTERMSIG(status) == SIGSYS,
          "after a forbidden call the process %s", how_it_ended(status).c_str());
  return w.finish();
}
