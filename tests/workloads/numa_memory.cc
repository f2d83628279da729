// Checks: NUMA memory policies of mappings: parts of one, neighbours that differ in nothing else, of a file, the heap,
// the stack, memory that nobody may read; what a fork has made of them; and those of mappings that are made, or get
// another policy, while it runs.

#include "tests/workloads/children.h"
#include "tests/workloads/layout.h"
#include "tests/workloads/numa.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <vector>

using namespace godwit::workloads;
using numa::Policy;

namespace {

constexpr std::size_t page = 4096, size = 4 * page;

// A range of memory and the policy that it has been given, if this kernel knows it.
class Range {
 public:
  Range(const char* name, char* at, std::size_t bytes, const Policy& policy) : name_(name), at_(at), bytes_(bytes) {
    if (policy.mode != MPOL_DEFAULT) numa::set_for_memory(at, bytes, policy);
    had_ = numa::of_memory(at);
  }
  void give(const Policy& policy) {
    must(numa::set_for_memory(at_, bytes_, policy) ? 0 : -1, "mbind");
    had_ = numa::of_memory(at_);
  }
  void check(Workload& w, const char* who) const {
    for (std::size_t done = 0; done < bytes_; done += page)
      w.check(numa::of_memory(at_ + done) == had_, "%s: page %zu of %s has %s, not %s", who, done / page, name_,
              numa::of_memory(at_ + done).text().c_str(), had_.text().c_str());
  }

 private:
  const char* name_;
  char* at_;
  std::size_t bytes_;
  Policy had_;
};

char* map_program(int protection, int flags) {
  const int fd = must(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), "open");
  void* const at = must(mmap(nullptr, size, protection, flags, fd, 0), "mmap");
  close(fd);
  return static_cast<char*>(at);
}

char* whole_page(void* at) {
  return reinterpret_cast<char*>((reinterpret_cast<std::uintptr_t>(at) + page - 1) & -page);
}

// Made anew all the time, in two places in turn.
class Restless {
 public:
  explicit Restless(unsigned long node) : node_(node), place_(map(4 * size)) {
    must(mprotect(place_, 4 * size, PROT_NONE), "mprotect");
  }
  void move() {
    if (at_) make(at_, PROT_NONE);
    turn_ = !turn_;
    at_ = make(place_ + (turn_ ? 0 : 2 * size), PROT_READ | PROT_WRITE);
    fill(at_, page, ++seed_);
    range_.clear();
    range_.emplace_back("what is new", at_, size, Policy{turn_ ? MPOL_BIND : MPOL_INTERLEAVE, {node_}});
  }
  void check(Workload& w) const {
    for (const Range& r : range_) r.check(w, "parent");
    w.check(holds(at_, page, seed_), "what is new has another content");
  }

 private:
  static char* make(char* at, int protection) {
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    return static_cast<char*>(must(mmap(at, size, protection, flags, -1, 0), "mmap"));
  }

  const unsigned long node_;
  char* const place_;
  char* at_ = nullptr;
  bool turn_ = false;
  std::uint64_t seed_ = 100;
  std::vector<Range> range_;
};

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const unsigned long first = numa::first_node(w), next = first << 1;
  const Policy binding{MPOL_BIND, {first}}, interleaving{MPOL_INTERLEAVE, {first}},
      fixed{MPOL_BIND | MPOL_F_STATIC_NODES, {first | next}}, local{MPOL_LOCAL};
  std::vector<Range> ranges;

  // One mapping that has become six; the first and the last page keep the default.
  char* const split = map(6 * size);
  fill(split, 6 * size, 1);
  const char* const was = "the split mapping";
  ranges.emplace_back(was, split, size, Policy{});
  ranges.emplace_back("a bound part", split + size, size, binding);
  ranges.emplace_back("an interleaved part", split + 2 * size, size, interleaving);
  ranges.emplace_back("a part with static nodes", split + 3 * size, size, fixed);
  ranges.emplace_back("a part with relative nodes", split + 4 * size, size,
                      Policy{MPOL_PREFERRED_MANY | MPOL_F_RELATIVE_NODES, {6}});
  ranges.emplace_back(was, split + 5 * size, size, Policy{});

  char* const balanced = map(size);
  ranges.emplace_back("balanced memory", balanced, size, Policy{MPOL_BIND | MPOL_F_NUMA_BALANCING, {first}});
  char* const weighted = map(size);
  ranges.emplace_back("memory with weights", weighted, size, Policy{numa::weighted_interleave, {first}});
  char* const closed = map(size);
  fill(closed, size, 2);
  must(mprotect(closed, size, PROT_NONE), "mprotect");
  ranges.emplace_back("inaccessible memory", closed, size, local);
  char* const file = map_program(PROT_READ | PROT_WRITE, MAP_PRIVATE);
  fill(file, page, 3);
  ranges.emplace_back("a file's private mapping", file, 2 * page, binding);
  ranges.emplace_back("the rest of it", file + 2 * page, 2 * page, Policy{});
  char* const shared_file = map_program(PROT_READ, MAP_SHARED);
  ranges.emplace_back("a file's shared mapping", shared_file, size, interleaving);

  char* const heap = static_cast<char*>(sbrk(4 * page));
  ranges.emplace_back("a part of the heap", whole_page(heap), page, interleaving);
  char* const stack = whole_page(alloca(3 * page));
  fill(stack, page, 4);
  ranges.emplace_back("a part of the stack", stack, page, local);

  // Given while it runs to what has one already, and to a part of what has none.
  char* const given = map(size);
  fill(given, size, 5);
  Range changing("what changes", given, size, binding);
  char* const late = map(3 * page);
  fill(late, 3 * page, 6);
  Range late_part("a late part", late, page, Policy{});
  Restless restless(first);
  char* const taken = map(3 * size);  // in the middle of what nobody may read, so that it joins nothing
  must(mprotect(taken, size, PROT_NONE), "mprotect");
  must(mprotect(taken + 2 * size, size, PROT_NONE), "mprotect");
  std::vector<Range> replaced;

  const Child child = start_child(w, "child", 5, [&] {
    ranges[1].give(interleaving);  // for itself
    fill(split + size, page, 7);
    char* const own = map(size);
    ranges.emplace_back("what is its own", own, size, local);
    settled(w, "child");
    await(w, "end");
    for (const Range& r : ranges) r.check(w, "child");
    w.check(holds(split + size, page, 7), "the child's page has another content");
  });
  await_settled(w, "child");
  const std::string before = layout(split, 6 * size);

  w.ready();
  bool turn = false, given_late = false;
  w.wait_for_verify([&] {
    turn = !turn;
    changing.give(turn ? interleaving : fixed);
    restless.move();
    if (!given_late) late_part.give(local);
    given_late = true;
    if (!replaced.empty() || !w.asked("replace")) return;
    // By one that looks the same.
    must(mmap(taken + size, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), "mmap");
    replaced.emplace_back("what took another's place", taken + size, size, interleaving);
    w.tell("replace.done", "");
  });
  w.tell("end", "");
  for (const Range& r : ranges) r.check(w, "parent");
  changing.check(w, "parent");
  late_part.check(w, "parent");
  for (const Range& r : replaced) r.check(w, "parent");
  restless.check(w);
  w.check(holds(split, 6 * size, 1), "the split mapping has another content");
  w.check(holds(file, page, 3), "the file's private page has another content");
  w.check(holds(stack, page, 4), "the stack's page has another content");
  w.check(holds(given, size, 5) && holds(late, 3 * page, 6), "memory has another content");
  w.check(layout(split, 6 * size) == before, "the mappings were\n%s, and are\n%s", before.c_str(),
          layout(split, 6 * size).c_str());
  check_end(w, child);
  return w.finish();
}
