#include "coordinator/cli/beside.h"

#include "common/base/fd.h"

#include <filesystem>

#include <unistd.h>

namespace godwit::cli {

void exec_beside(std::string_view program, const std::vector<std::string>& words) {
  std::string path = (std::filesystem::path(read_link("/proc/self/exe")).parent_path() / program).string();
  if (::access(path.c_str(), X_OK) != 0) path = program;
  std::vector<char*> arguments{path.data()};
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execvp(path.c_str(), arguments.data());
  const int e = errno;
  throw syscall_error(e, fmt::format("execute {}", program));
}

}  // namespace godwit::cli
