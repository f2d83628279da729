// /proc/PID/mountinfo. Errors: Errc::internal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace godwit::proc {

struct Mount {
  std::int64_t id = 0;
  std::int64_t parent = 0;
  dev_t dev = 0;
  std::string root;   // what of the file system is mounted
  std::string point;  // where, below the process's root
  std::string options;
  std::vector<std::string> propagation;  // "shared:1", "master:2" and so on
  std::string type;
  std::string source;
  std::string super_options;
};

Mount parse_mount(std::string_view line);
std::vector<Mount> parse_mountinfo(std::string_view text);

}  // namespace godwit::proc
