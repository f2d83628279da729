// Checks: what the kernel knows about the address space as a whole: code, data, heap, stack, arguments, environment,
// auxiliary vector, the executable; and that the heap goes on growing where it ended.

#include "tests/workloads/workload.h"

#include <cstring>
#include <sstream>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

std::string executable() {
  char target[4096];
  const ssize_t size = readlink("/proc/self/exe", target, sizeof target);
  return size < 0 ? "?" : std::string(target, static_cast<std::size_t>(size));
}

// Fields 26-28 and 45-51 of /proc/self/stat: start and end of code, data, arguments and environment, starts of stack
// and heap.
std::string marks() {
  const std::string stat = read_file("/proc/self/stat");
  std::istringstream words(stat.substr(stat.rfind(") ") + 2));
  std::string text, word;
  for (int field = 3; words >> word; ++field) {
    if ((field >= 26 && field <= 28) || (field >= 45 && field <= 51)) text += word + " ";
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  constexpr std::size_t piece = 256 * 1024;
  char* const heap = static_cast<char*>(must(sbrk(piece), "sbrk"));
  fill(heap, piece, 5);
  // As a program does that shows its state in ps.
  std::memcpy(argv[0], "godwit", 6);
  char* const variable = getenv("WORKLOAD");
  if (variable != nullptr) variable[0] = 'M';

  const std::string marks_before = marks();
  const std::string arguments = read_file("/proc/self/cmdline");
  const std::string environment = read_file("/proc/self/environ");
  const std::string auxiliary = read_file("/proc/self/auxv");
  const std::string program = executable();
  void* const end = sbrk(0);

  w.ready();
  w.wait_for_verify();

  w.check(marks() == marks_before, "the marks were %s and are %s", marks_before.c_str(), marks().c_str());
  w.check(read_file("/proc/self/cmdline") == arguments && arguments.starts_with("godwit"), "the command line is %s",
          read_file("/proc/self/cmdline").c_str());
  w.check(read_file("/proc/self/environ") == environment &&
              environment.find(variable != nullptr ? "WORKLOAD=M" : "") != environment.npos,
          "the environment changed");
  w.check(read_file("/proc/self/auxv") == auxiliary && !auxiliary.empty(), "the auxiliary vector changed");
  w.check(executable() == program, "the executable is %s", executable().c_str());
  w.check(std::strncmp(reinterpret_cast<const char*>(getauxval(AT_EXECFN)), "/", 1) == 0, "AT_EXECFN leads nowhere");

  // The kernel's answer: the C library remembers its own.
  void* const end_now = reinterpret_cast<void*>(syscall(SYS_brk, 0));
  if (!w.check(end_now == end, "the heap ended at %p and ends at %p", end, end_now)) return w.finish();
  auto* const grown = static_cast<char*>(sbrk(piece));
  w.check(grown == end, "the heap grew at %p", static_cast<void*>(grown));
  w.check(all_zero(grown, piece), "the heap's new part is not empty");
  fill(grown, piece, 6);
  w.check(holds(heap, piece, 5), "the heap's content changed");
  w.check(brk(heap) == 0 && sbrk(0) == heap, "the heap cannot shrink: %m");
  return w.finish();
}
