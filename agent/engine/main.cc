// godwit-engine: the only program that touches other processes. By hand through `godwit`, which becomes this program;
// or one job of an agent.
//
// Exit codes: 0 done, 1 failed, 2 bad command line, 3 refused (nothing was touched). A restore that waits ends as the
// restored process did.

#include "agent/engine/commands/check_command.h"
#include "agent/engine/commands/command_line.h"
#include "agent/engine/commands/cpuinfo_command.h"
#include "agent/engine/commands/dedup_command.h"
#include "agent/engine/commands/dump_command.h"
#include "agent/engine/commands/image_command.h"
#include "agent/engine/commands/restore_command.h"
#include "agent/engine/commands/stopped.h"
#include "agent/engine/commands/survey_command.h"
#include "agent/engine/holder/keeper.h"
#include "agent/engine/job.h"
#include "agent/engine/ptrace/run_directory.h"
#include "common/base/log.h"
#include "common/base/standard_streams.h"

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::engine {
namespace {

int run_agents_job(const commands::Options& options) { return run_job(UniqueFd(options.control)); }

struct Command {
  std::string_view name;
  int (*run)(const commands::Options&);
  bool has_processes = false;  // may begin, end or keep something of them
};

constexpr std::array known{
    Command{"dump", commands::run_dump, true},
    Command{"pre-dump", commands::run_dump, true},
    Command{"restore", commands::run_restore, true},
    Command{"dedup", commands::run_dedup},
    Command{"kill", commands::run_kill, true},
    Command{"resume", commands::run_resume},
    Command{"check", commands::run_check},
    Command{"cpuinfo dump", commands::run_cpuinfo_dump},
    Command{"cpuinfo check", commands::run_cpuinfo_check},
    Command{"image show", commands::run_image_show},
    Command{"survey", commands::run_survey},
    Command{"job", run_agents_job, true},
    Command{"holder", holder::run_holder},
};

// `terminal`: standard error, when something else has become it.
int run(const std::vector<std::string>& words, UniqueFd& terminal) {
  const std::optional<commands::Options> options = commands::parse(words);
  if (!options) return 0;
  if (options->command != "job" && options->command != "holder") terminal = commands::begin_log(*options);
  for (const Command& c : known)
    if (c.name == options->command) {
      if (c.has_processes) survive_broken_pipes();
      const int status = c.run(*options);
      if (c.has_processes) forget_ended();
      return status;
    }
  fail(Errc::internal, "nothing runs {}", options->command);
}

int exit_code(Errc code) {
  if (code == Errc::invalid_argument) return 2;
  return code == Errc::refused ? 3 : 1;
}

}  // namespace
}  // namespace godwit::engine

int main(int argc, char** argv) {
  godwit::open_standard_streams();
  godwit::log::init("godwit-engine");
  godwit::UniqueFd terminal;
  try {
    const int status = godwit::engine::run({argv + 1, argv + argc}, terminal);
    godwit::finish_output();
    return status;
  } catch (const godwit::Error& e) {
    godwit::engine::commands::log_failure(e, terminal);
    return godwit::engine::exit_code(e.errc());
  } catch (const std::exception& e) {
    godwit::log::error("engine.failed", {{"code", "internal"}, {"message", e.what()}});
    return 1;
  }
}
