#include "agent/service/facts.h"

#include "agent/engine/numa/policy.h"
#include "common/base/fd.h"

#include <cstdlib>
#include <sstream>

#include <cpuid.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace godwit::service {
namespace {

// A test gives a node an older CPU: the register state that this leaves it, "0x7".
std::uint64_t left_by_test() {
  const char* mask = std::getenv("GODWIT_XFEATURES");
  return mask ? std::stoull(mask, nullptr, 0) : ~std::uint64_t{0};
}

}  // namespace

std::uint64_t meminfo_bytes(const std::string& meminfo, const std::string& field) {
  std::istringstream lines(meminfo);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(field + ":")) continue;
    std::uint64_t kib = 0;
    std::istringstream(line.substr(field.size() + 1)) >> kib;
    return kib * 1024;
  }
  return 0;
}

std::vector<std::string> flags_in(const std::string& cpuinfo) {
  std::vector<std::string> flags;
  const auto line = cpuinfo.find("flags\t");
  if (line == std::string::npos) return flags;
  const auto begin = cpuinfo.find(':', line) + 1;
  std::istringstream words(cpuinfo.substr(begin, cpuinfo.find('\n', begin) - begin));
  for (std::string word; words >> word;) flags.push_back(word);
  return flags;
}

std::uint64_t enabled_xfeatures() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
  std::uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

std::uint64_t memory_available() { return meminfo_bytes(read_file("/proc/meminfo"), "MemAvailable"); }

NodeFacts read_facts() {
  NodeFacts facts;
  facts.boot_id = read_file("/proc/sys/kernel/random/boot_id");
  facts.boot_id.erase(facts.boot_id.find_last_not_of('\n') + 1);
  utsname names{};
  check(::uname(&names), "uname");
  facts.kernel = names.release;
  facts.memory_total = meminfo_bytes(read_file("/proc/meminfo"), "MemTotal");
  facts.memory_available = memory_available();
  facts.xfeatures = enabled_xfeatures() & left_by_test();
  facts.cpus = static_cast<std::uint32_t>(::sysconf(_SC_NPROCESSORS_ONLN));
  facts.cpu_flags = flags_in(read_file("/proc/cpuinfo"));
  facts.numa_nodes = engine::numa::usable_nodes(::getpid());
  return facts;
}

}  // namespace godwit::service
