// Checks: the flags of mappings: madvise's, locked, not reserved, growing down, named, sealed; and what fork makes of
// them.

#include "tests/workloads/layout.h"
#include "tests/workloads/workload.h"

#include <cstdio>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

namespace {

constexpr std::size_t size = 4 * 4096;

struct Piece {
  const char* name;
  char* at;
};

char* advised(int advice) {
  char* const at = map(size);
  fill(at, size, static_cast<std::uint64_t>(advice));
  if (madvise(at, size, advice) != 0) std::fprintf(stderr, "madvise %d is not known here: %m\n", advice);
  return at;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::vector<Piece> pieces = {
      {"MADV_DONTDUMP", advised(MADV_DONTDUMP)},     {"MADV_SEQUENTIAL", advised(MADV_SEQUENTIAL)},
      {"MADV_RANDOM", advised(MADV_RANDOM)},         {"MADV_HUGEPAGE", advised(MADV_HUGEPAGE)},
      {"MADV_NOHUGEPAGE", advised(MADV_NOHUGEPAGE)}, {"MADV_MERGEABLE", advised(MADV_MERGEABLE)}};
  char* const not_inherited = advised(MADV_DONTFORK);
  char* const wiped = advised(MADV_WIPEONFORK);
  pieces.push_back({"MADV_DONTFORK", not_inherited});
  pieces.push_back({"MADV_WIPEONFORK", wiped});

  char* const locked = map(size);
  fill(locked, size, 1);
  must(mlock(locked, size), "mlock");
  pieces.push_back({"mlock", locked});
  char* const locked_on_fault = map(size);
  must(mlock2(locked_on_fault, size, MLOCK_ONFAULT), "mlock2");
  fill(locked_on_fault, 4096, 2);
  pieces.push_back({"MLOCK_ONFAULT", locked_on_fault});
  char* const unreserved = map(size, MAP_NORESERVE);
  fill(unreserved, size, 3);
  pieces.push_back({"MAP_NORESERVE", unreserved});
  char* const grows = map(size, MAP_GROWSDOWN | MAP_STACK);
  fill(grows, size, 4);
  pieces.push_back({"MAP_GROWSDOWN", grows});
  char* const named = map(size);
  fill(named, size, 5);
  if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, named, size, "a name [with] signs, in(it)") != 0) {
    std::fprintf(stderr, "mappings cannot be named here: %m\n");
  }
  pieces.push_back({"a name", named});

  char* const sealed = map(size);
  fill(sealed, size, 6);
  const bool can_seal = syscall(462 /* mseal, 6.10+ */, sealed, size, 0) == 0;
  pieces.push_back({"a seal", sealed});

  std::vector<std::string> before;
  for (const Piece& piece : pieces) before.push_back(layout(piece.at, size));

  w.ready();
  w.wait_for_verify();

  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::string now = layout(pieces[i].at, size);
    w.check(now == before[i], "the mapping with %s was\n%sand is\n%s", pieces[i].name, before[i].c_str(), now.c_str());
  }
  for (const int advice : {MADV_DONTDUMP, MADV_SEQUENTIAL, MADV_RANDOM, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_MERGEABLE,
                           MADV_DONTFORK, MADV_WIPEONFORK}) {
    bool found = false;
    for (const Piece& piece : pieces) found = found || holds(piece.at, size, static_cast<std::uint64_t>(advice));
    w.check(found, "the content of the mapping with madvise %d changed", advice);
  }
  w.check(holds(locked, size, 1) && holds(locked_on_fault, 4096, 2) && all_zero(locked_on_fault + 4096, size - 4096) &&
              holds(unreserved, size, 3) && holds(grows, size, 4) && holds(named, size, 5),
          "the content of a locked, unreserved, growing or named mapping changed");

  w.check(holds(sealed, size, 6), "the content of the sealed mapping changed");
  if (can_seal) w.check(munmap(sealed, size) == -1, "the sealed mapping can be unmapped");

  const pid_t child = fork();
  if (child == 0) {
    unsigned char resident[size / 4096];
    const bool absent = mincore(not_inherited, size, resident) == -1;
    _exit((absent ? 0 : 1) | (all_zero(wiped, size) ? 0 : 2) | (holds(locked, size, 1) ? 0 : 4));
  }
  int status = 0;
  waitpid(child, &status, 0);
  w.check(status == 0, "a forked child sees another memory than it should: %#x", status);
  return w.finish();
}
