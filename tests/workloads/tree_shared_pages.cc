// Checks: 64 MiB that four children have from their parent's fork take their place once: what each of the five has
// written since is its own, everything else is still shared.

#include "tests/workloads/children.h"

#include <cstdio>
#include <vector>

using namespace godwit::workloads;

namespace {

constexpr std::size_t page = 4096, size = 64 << 20, pages = size / page;
constexpr int children = 4;
constexpr std::size_t step = 512;  // of the pages that each process writes anew
constexpr int parent = children;

std::uint64_t seed_of(int process, std::size_t i) {
  const bool own = i % step == static_cast<std::size_t>(process);
  return (own ? 0xd1000 + static_cast<std::uint64_t>(process) * 0x10000 : 0xd0000) + i;
}

void write_own(char* memory, int process) {
  for (auto i = static_cast<std::size_t>(process); i < pages; i += step)
    fill(memory + i * page, page, seed_of(process, i));
}

void check_all(Workload& w, const char* memory, int process) {
  for (std::size_t i = 0; i < pages; i++)
    w.check(holds(memory + i * page, page, seed_of(process, i)), "page %zu of process %d is not its own", i, process);
}

// Its part of what it shares with others, in KiB.
long proportional_size(pid_t pid) {
  const std::string text = read_file("/proc/" + std::to_string(pid) + "/smaps_rollup");
  const std::size_t at = text.find("\nPss_Anon:");
  return at == std::string::npos ? -1 : std::atol(text.c_str() + at + sizeof("\nPss_Anon:") - 1);
}

void check_once(Workload& w, const std::vector<Child>& family) {
  long sum = proportional_size(getpid());
  w.check(sum >= 0, "the size of the parent is not told");
  for (const Child& child : family) {
    const long part = proportional_size(child.pid);
    w.check(part >= 0, "the size of %s is not told", child.name.c_str());
    sum += part;
  }
  constexpr long most = (size + size / 8) / 1024;
  w.check(sum <= most, "the tree takes %ld KiB, more than %ld: its pages are not shared", sum, most);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  char* const memory = map(size);
  for (std::size_t i = 0; i < pages; i++) fill(memory + i * page, page, 0xd0000 + i);

  std::vector<Child> family;
  for (int n = 0; n < children; n++) {
    const std::string name = "sharer-" + std::to_string(n);
    family.push_back(start_child(w, name, 8 + n, [&] {
      write_own(memory, n);
      settled(w, name);
      w.wait_for_verify();
      check_all(w, memory, n);
      await(w, "measured");
    }));
    await_settled(w, name);
  }
  write_own(memory, parent);

  w.ready();
  w.wait_for_verify();
  check_all(w, memory, parent);
  check_once(w, family);
  w.tell("measured", "");
  for (const Child& child : family) check_end(w, child);
  return w.finish();
}
