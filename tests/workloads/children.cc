#include "tests/workloads/children.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::workloads {
namespace {

constexpr int complains = 99;
constexpr double limit = 20;

std::string complaint_of(const std::string& name) { return "complaint-" + name; }

}  // namespace

// The C library's fork() does more, which a child of one thread does not need.
pid_t fork_sharing(int flags) {
  if (flags == 0) return fork();
  return static_cast<pid_t>(syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, 0));
}

void begin_child(pid_t parent) {
  must(prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
  if (getppid() != parent) _exit(complains);
}

void end_child(Workload& w, const std::string& name, int code) {
  const std::string failure = w.failure();
  if (failure.empty()) _exit(code);
  w.tell(complaint_of(name).c_str(), failure);
  _exit(complains);
}

void settled(Workload& w, const std::string& name) { w.tell(("settled-" + name).c_str(), ""); }

void await(Workload& w, const std::string& name) {
  for (const double end = Workload::now() + limit; !w.asked(name.c_str()); pause_for(0.002))
    if (Workload::now() > end) {
      errno = ETIMEDOUT;
      give_up(name.c_str());
    }
}

void await_settled(Workload& w, const std::string& name) { await(w, "settled-" + name); }

void check_end(Workload& w, const Child& child) {
  const char* const name = child.name.c_str();
  int status = 0;
  pid_t got = 0;
  w.wait_until([&] { return (got = waitpid(child.pid, &status, WNOHANG)) != 0; }, limit);
  if (!w.check(got == child.pid, "%s: waiting for process %d: %s", name, child.pid,
               got == 0 ? "it does not end" : strerrorname_np(errno)))
    return;
  const std::string complaint = read_file(w.path(complaint_of(child.name)));
  w.check(complaint.empty(), "%s: %s", name, complaint.c_str());
  w.check(WIFEXITED(status) && WEXITSTATUS(status) == child.code, "%s: %s, not exit status %d", name,
          how_it_ended(status).c_str(), child.code);
}

std::string how_it_ended(int status) {
  if (WIFEXITED(status)) return "exit status " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  if (WIFSTOPPED(status)) return "stopped by signal " + std::to_string(WSTOPSIG(status));
  return "status " + std::to_string(status);
}

}  // namespace godwit::workloads
