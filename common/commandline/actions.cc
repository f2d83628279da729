#include "common/commandline/actions.h"

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/waiting.h"

#include <csignal>
#include <cstdio>
#include <cstring>
#include <ranges>

#include <sys/wait.h>
#include <unistd.h>

namespace godwit {
namespace {

constexpr int not_executed = 127;  // as a shell has it

[[noreturn]] void become(const std::string& script, const std::string& action, const std::string& images, pid_t pid) {
  ::setenv("CRTOOLS_SCRIPT_ACTION", action.c_str(), 1);
  ::setenv("CRTOOLS_IMAGE_DIR", images.c_str(), 1);
  if (pid) ::setenv("CRTOOLS_INIT_PID", std::to_string(pid).c_str(), 1);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execlp(script.c_str(), script.c_str(), nullptr);  // a path, not a command line, as with CRIU
  ::dprintf(2, "%s: %s\n", script.c_str(), std::strerror(errno));
  ::_exit(not_executed);
}

std::string how_it_ended(int status) {
  if (WIFSIGNALED(status)) return fmt::format("was ended by signal {}", WTERMSIG(status));
  return fmt::format("exited with {}", WEXITSTATUS(status));
}

// What went wrong; empty: nothing. `status` as a shell has it.
std::string run(const std::string& script, const std::string& action, const std::string& images, pid_t pid,
                int& status) {
  const pid_t child = check(::fork(), "fork for {}", script);
  if (child == 0) become(script, action, images, pid);
  const int ended_with = wait_for_child(child);
  status = shell_status(ended_with);
  if (status == 0) return {};
  return fmt::format("the action script {} {} at {}", script, how_it_ended(ended_with), action);
}

}  // namespace

RunAction run_scripts(std::vector<std::string> scripts, std::string images_path) {
  return [scripts = std::move(scripts), images = std::move(images_path)](std::string_view action, pid_t pid) {
    std::string problems;
    int all = 0;
    for (const std::string& script : scripts | std::views::reverse) {
      log::debug("action.script", {{"action", action}, {"script", script}});
      int status = 0;
      const std::string problem = run(script, std::string(action), images, pid, status);
      if (!problem.empty()) problems += (problems.empty() ? "" : "; ") + problem;
      all |= status;
    }
    if (all != 0) throw ScriptFailed(problems, all);
  };
}

}  // namespace godwit
