#include "agent/engine/program.h"

#include "common/base/error.h"
#include "common/proc/reader.h"

#include <fmt/format.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t forked_no_exec = 0x40;  // PF_FORKNOEXEC

}  // namespace

std::string program_of(pid_t pid) {
  const proc::Reader proc(pid);
  const proc::Stat s = proc.stat();
  std::string text = fmt::format("{} {:x} {:x} {:x}", proc.link("exe"), s.start_code, s.start_stack, s.env_start);
  for (const std::uint64_t word : proc.auxv()) text += fmt::format(" {:x}", word);
  return text;
}

bool forked_only(pid_t pid) { return proc::Reader(pid).stat().flags & forked_no_exec; }

bool forked_by_its_like(pid_t pid) {
  const proc::Stat stat = proc::Reader(pid).stat();
  if (!(stat.flags & forked_no_exec) || stat.ppid == 0) return false;
  const std::string program = program_of(pid);
  try {
    return program_of(stat.ppid) == program;
  } catch (const Error&) {
    return false;  // the parent has just ended
  }
}

}  // namespace godwit::engine
