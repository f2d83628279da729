#include "agent/engine/commands/actions.h"

#include "common/base/check.h"
#include "common/base/log.h"

#include <csignal>
#include <cstdio>
#include <cstring>

#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine::commands {
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

void run(const std::string& script, const std::string& action, const std::string& images, pid_t pid) {
  const pid_t child = check(::fork(), "fork for {}", script);
  if (child == 0) become(script, action, images, pid);
  int status = 0;
  pid_t ended = -1;
  do {
    ended = ::waitpid(child, &status, 0);
  } while (ended < 0 && errno == EINTR);
  check(ended, "wait for {}", script);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  const int exit_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  throw ScriptFailed(fmt::format("the action script {} {} at {}", script, how_it_ended(status), action), exit_status);
}

}  // namespace

RunAction run_scripts(std::vector<std::string> scripts, std::string images_path) {
  return [scripts = std::move(scripts), images = std::move(images_path)](std::string_view action, pid_t pid) {
    for (const std::string& script : scripts) {
      log::debug("action.script", {{"action", action}, {"script", script}});
      run(script, std::string(action), images, pid);
    }
  };
}

}  // namespace godwit::engine::commands
