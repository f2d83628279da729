// Checks: futex waits without a timeout (private, shared, bitset, for one of several): none returns by itself, each
// wake wakes exactly one.

#include "tests/workloads/blocked_call.h"

#include <algorithm>
#include <climits>
#include <linux/futex.h>
#include <list>
#include <sys/mman.h>
#include <sys/syscall.h>

using namespace godwit::workloads;

namespace {

long futex(std::uint32_t* word, int operation, std::uint32_t value, std::uint32_t bits = 0) {
  return syscall(SYS_futex, word, operation, value, nullptr, nullptr, bits);
}

struct WaitFor {  // struct futex_waitv, 5.16+
  std::uint64_t value = 0, address = 0;
  std::uint32_t flags = 2 | FUTEX_PRIVATE_FLAG, reserved = 0;  // 32 bits
};

// Which of the two was woken.
long wait_for_either(std::uint32_t* first, std::uint32_t* second) {
  const WaitFor words[] = {{.value = *first, .address = reinterpret_cast<std::uint64_t>(first)},
                           {.value = *second, .address = reinterpret_cast<std::uint64_t>(second)}};
  return syscall(449, words, 2, 0, nullptr, 0);
}

std::ptrdiff_t returned(const std::list<BlockedCall>& calls) {
  return std::count_if(calls.begin(), calls.end(), [](const BlockedCall& c) { return c.returned(); });
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::uint32_t word = 7;
  auto* const shared = static_cast<std::uint32_t*>(
      must(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), "mmap"));
  *shared = 9;
  std::list<BlockedCall> privates, shareds, bitsets;
  for (int i = 0; i < 6; ++i)
    privates.emplace_back("FUTEX_WAIT_PRIVATE", [&] { return futex(&word, FUTEX_WAIT_PRIVATE, 7); });
  for (int i = 0; i < 3; ++i) shareds.emplace_back("FUTEX_WAIT", [=] { return futex(shared, FUTEX_WAIT, 9); });
  for (int i = 0; i < 3; ++i) {
    bitsets.emplace_back("FUTEX_WAIT_BITSET",
                         [&word, i] { return futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 7, 0x100u << i); });
  }
  std::uint32_t first = 1, second = 2;
  BlockedCall several("futex_waitv", [&] { return wait_for_either(&first, &second); });
  several.settle();
  for (const auto* group : {&privates, &shareds, &bitsets}) {
    for (const BlockedCall& call : *group) call.settle();
  }

  w.ready();
  w.wait_for_verify();
  for (const auto* group : {&privates, &shareds, &bitsets}) {
    for (const BlockedCall& call : *group) call.still_blocked(w);
  }
  if (!(several.returned() && several.result() == -1)) {  // ENOSYS
    several.still_blocked(w);
    const long woken = futex(&second, FUTEX_WAKE_PRIVATE, 1);
    w.check(woken == 1, "a wake of the second of two words woke %ld", woken);
    several.comes_back(w, 1);
  }
  const long third = futex(&word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, 0x400);
  // FUTEX_WAIT waits for any bit, so it is woken by this one as well.
  w.check(third == 7, "a wake of bit 10 woke %ld waiters, not 7", third);
  const long one = futex(shared, FUTEX_WAKE, 1);
  w.check(one == 1, "a wake of one shared waiter woke %ld", one);
  w.check(w.wait_until([&] { return returned(shareds) == 1; }), "one shared waiter was woken, %td came back",
          returned(shareds));
  const long others = futex(shared, FUTEX_WAKE, INT_MAX);
  w.check(others == 2, "a wake of all shared waiters woke %ld, not 2", others);
  const long rest = futex(&word, FUTEX_WAKE_PRIVATE, INT_MAX);
  w.check(rest == 2, "a wake of the remaining waiters woke %ld, not 2", rest);
  for (const auto* group : {&privates, &shareds, &bitsets}) {
    for (const BlockedCall& call : *group) call.comes_back(w, 0);
  }
  return w.finish();
}
