#include "agent/engine/program.h"

#include "common/proc/reader.h"

#include <fmt/format.h>

namespace godwit::engine {

std::string program_of(pid_t pid) {
  const proc::Reader proc(pid);
  const proc::Stat s = proc.stat();
  std::string text = fmt::format("{} {:x} {:x} {:x}", proc.link("exe"), s.start_code, s.start_stack, s.env_start);
  for (const std::uint64_t word : proc.auxv()) text += fmt::format(" {:x}", word);
  return text;
}

}  // namespace godwit::engine
