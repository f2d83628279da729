// Three threads that count, each in a table of its own, on a stack of its own.
#include "bare.h"

enum { threads = 3, places = 128, stack = 4096 };
// CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
enum { thread_flags = 0x50f00 };

static volatile u64 counts[threads];
static volatile int over[threads];
static u64 tables[threads][places];
static unsigned char stacks[threads][stack] __attribute__((aligned(16)));

static u64 value(int thread, u64 at, u64 generation) {
  return (at + 1) * 0x9e3779b97f4a7c15 + generation * 0xbf58476d1ce4e5b9 + (u64)thread;
}

static void count(int thread) {
  while (!is_to_verify()) {
    const u64 n = counts[thread];
    tables[thread][n % places] = value(thread, n % places, n / places + 1);
    counts[thread] = n + 1;
    pause_a_moment();
  }
  over[thread] = 1;
}

static __attribute__((used, noreturn)) void run(int thread) {
  count(thread);
  for (;;) call(sys_exit, 0, 0, 0, 0);
}

// The new thread finds its number on its stack.
static void begin(int thread) {
  u64* top = (u64*)(stacks[thread] + stack) - 2;
  *top = (u64)thread;
  long result;
  register long r8 __asm__("r8") = 0;
  register long r10 __asm__("r10") = 0;
  __asm__ volatile(
      "syscall\n test %%rax, %%rax\n jnz 1f\n xor %%ebp, %%ebp\n pop %%rdi\n pop %%rax\n call run\n 1:"
      : "=a"(result)
      : "0"((long)sys_clone), "D"((long)thread_flags), "S"(top), "d"(0l), "r"(r10), "r"(r8)
      : "rcx", "r11", "memory");
}

void start(void) {
  for (int t = 0; t < threads; t++)
    for (u64 i = 0; i < places; i++) tables[t][i] = value(t, i, 0);
  for (int t = 1; t < threads; t++) begin(t);
  while (!counts[1] || !counts[2]) pause_a_moment();
  make("ready");
  count(0);
  int good = 1;
  for (int t = 0; t < threads; t++) {
    for (int waited = 0; !over[t] && waited < 1000; waited++) pause_a_moment();
    if (!over[t] || counts[t] == 0) good = 0;
    for (u64 i = 0; i < places; i++)
      if (tables[t][i] != value(t, i, counts[t] / places + (i < counts[t] % places))) good = 0;
  }
  end(good);
}
