#include "coordinator/cli/local.h"

#include "agent/engine/commands/options.h"
#include "coordinator/cli/beside.h"
#include "coordinator/cli/page_link.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace godwit::cli {

namespace {

constexpr std::array<std::string_view, 9> commands{"dump",    "pre-dump", "restore", "dedup",      "check",
                                                   "cpuinfo", "image",    "resume",  "page-server"};
constexpr std::array<std::string_view, 4> criu_only{"lazy-pages", "service", "swrk", "exec"};

bool speaks_of_page_server(std::string_view word) { return word.starts_with("--page-server"); }

// The same words, as the engine would parse them with a socket: what is wrong is said before anybody is called.
std::optional<engine::commands::Options> parse(std::vector<std::string> words) {
  words.insert(words.end(), {"--page-server-fd", "0"});
  return engine::commands::parse(words);
}

}  // namespace

bool is_criu_command(std::string_view command) {
  return command == "kill" || std::ranges::find(commands, command) != commands.end() ||
         std::ranges::find(criu_only, command) != criu_only.end();
}

void refuse_criu_command(const std::vector<std::string>& words) {
  const std::string_view command = words.empty() ? std::string_view() : words[0];
  if (command == "lazy-pages")
    throw Error(Errc::unsupported, "'lazy-pages' is not there: pages come before a process is stopped, not after",
                "`godwit pre-dump` makes what is left to be copied small; `godwit migrate` does it by itself");
  if (command == "service" || command == "swrk")
    throw Error(Errc::unsupported, fmt::format("'{}' is not there: nothing here speaks CRIU's RPC", command),
                "run the commands; between nodes, `godwit-agent` and `godwit-coordinator` (docs/api.md)");
  if (command == "exec")
    throw Error(Errc::unsupported, "'exec' is not there: no system call is made in other processes on demand",
                "a debugger can do that");
}

bool is_local(const std::vector<std::string>& words) {
  if (words.empty()) return false;
  const std::string_view command = words[0];
  if (std::ranges::find(commands, command) != commands.end()) return true;
  // `godwit kill NAME` signals a workload of the cluster; `godwit kill -t PID` ends what a dump has left stopped.
  const auto names_process = [](std::string_view w) { return w.starts_with("-t") || w.starts_with("--tree"); };
  return command == "kill" && std::ranges::any_of(words, names_process);
}

void exec_local(std::vector<std::string> words) {
  if (words[0] == "page-server") exec_beside("godwit-pageserver", words);
  UniqueFd pages;  // open until the engine has it
  const bool dumps = words[0] == "dump" || words[0] == "pre-dump";
  if (dumps && std::ranges::any_of(words, speaks_of_page_server)) {
    const auto options = parse(words);
    if (!options) return;
    if (options->page_server.use) {
      pages = open_page_link(options->page_server);
      words.insert(words.end(), {"--page-server-fd", std::to_string(pages.get())});
    }
  }
  exec_beside("godwit-engine", words);
}

}  // namespace godwit::cli
