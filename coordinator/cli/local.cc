#include "coordinator/cli/local.h"

#include "common/base/fd.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <vector>

#include <unistd.h>

namespace godwit::cli {

bool is_local(std::span<char* const> words) {
  constexpr std::array commands{"dump", "pre-dump", "restore", "dedup", "check", "cpuinfo", "image", "resume"};
  if (words.empty()) return false;
  const std::string_view command = words[0];
  if (std::ranges::find(commands, command) != commands.end()) return true;
  // `godwit kill NAME` signals a workload of the cluster; `godwit kill -t PID` ends what a dump has left stopped.
  const auto names_process = [](std::string_view w) { return w.starts_with("-t") || w.starts_with("--tree"); };
  return command == "kill" && std::ranges::any_of(words, names_process);
}

void exec_engine(int argc, char** argv) {
  const std::filesystem::path beside =
      std::filesystem::path(read_link("/proc/self/exe")).parent_path() / "godwit-engine";
  std::string program = beside.string();
  if (::access(program.c_str(), X_OK) != 0) program = "godwit-engine";
  std::vector<char*> arguments(argv, argv + argc);
  arguments[0] = program.data();
  arguments.push_back(nullptr);
  ::execvp(program.c_str(), arguments.data());
  const int e = errno;
  throw syscall_error(e, "execute godwit-engine");
}

}  // namespace godwit::cli
