#include "coordinator/cli/local.h"

#include "common/base/fd.h"

#include <filesystem>
#include <vector>

#include <unistd.h>

namespace godwit::cli {

bool is_local(std::string_view command) { return command == "dump" || command == "restore"; }

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
