// Checks: every general, x87, SSE, AVX and AVX-512 register, mxcsr, the x87 control word, the direction flag and the FS
// and GS bases of threads that spin in user space and make no system call.

#include "tests/workloads/workload.h"

#include <asm/prctl.h>
#include <cstdio>
#include <cstring>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

// The loops read it straight from memory.
extern "C" {
std::atomic<std::uint32_t> spin_over = 0;
}

namespace {

// Loads the registers from `in`, spins, stores them to `out`. `in` and `out` stay in rdi and rsi.
void spin_zmm(const std::uint64_t* in, std::uint64_t* out) {
  asm volatile(
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
      "vmovdqu64 64*\\r(%0), %%zmm\\r\n"
      ".endr\n"
      ".irp r,0,1,2,3,4,5,6,7\n"
      "kmovq 2048+8*\\r(%0), %%k\\r\n"
      ".endr\n"
      "1: cmpl $0, spin_over(%%rip)\n"
      "je 1b\n"
      ".irp r,0,1,2,3,4,5,6,7\n"
      "kmovq %%k\\r, 2048+8*\\r(%1)\n"
      ".endr\n"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
      "vmovdqu64 %%zmm\\r, 64*\\r(%1)\n"
      ".endr\n"
      "vzeroupper\n"
      :
      : "D"(in), "S"(out)
      : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

void spin_ymm(const std::uint64_t* in, std::uint64_t* out) {
  asm volatile(
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
      "vmovdqu 32*\\r(%0), %%ymm\\r\n"
      ".endr\n"
      "1: cmpl $0, spin_over(%%rip)\n"
      "je 1b\n"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
      "vmovdqu %%ymm\\r, 32*\\r(%1)\n"
      ".endr\n"
      "vzeroupper\n"
      :
      : "D"(in), "S"(out)
      : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

void spin_xmm(const std::uint64_t* in, std::uint64_t* out) {
  asm volatile(
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
      "movdqu 16*\\r(%0), %%xmm\\r\n"
      ".endr\n"
      "1: cmpl $0, spin_over(%%rip)\n"
      "je 1b\n"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
      "movdqu %%xmm\\r, 16*\\r(%1)\n"
      ".endr\n"
      :
      : "D"(in), "S"(out)
      : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

// Every general register but rsp, which holds the way back, with the direction flag set.
__attribute__((naked)) void spin_general(const std::uint64_t*, std::uint64_t*) {
  asm volatile(
      "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n push %rsi\n"
      "mov (%rdi), %rax\n mov 8(%rdi), %rbx\n mov 16(%rdi), %rcx\n mov 24(%rdi), %rdx\n mov 32(%rdi), %rsi\n"
      "mov 48(%rdi), %rbp\n mov 56(%rdi), %r8\n mov 64(%rdi), %r9\n mov 72(%rdi), %r10\n mov 80(%rdi), %r11\n"
      "mov 88(%rdi), %r12\n mov 96(%rdi), %r13\n mov 104(%rdi), %r14\n mov 112(%rdi), %r15\n mov 40(%rdi), %rdi\n"
      "std\n"
      "1: cmpl $0, spin_over(%rip)\n"
      "je 1b\n"
      "push %rsi\n mov 8(%rsp), %rsi\n"
      "mov %rax, (%rsi)\n mov %rbx, 8(%rsi)\n mov %rcx, 16(%rsi)\n mov %rdx, 24(%rsi)\n mov %rdi, 40(%rsi)\n"
      "mov %rbp, 48(%rsi)\n mov %r8, 56(%rsi)\n mov %r9, 64(%rsi)\n mov %r10, 72(%rsi)\n mov %r11, 80(%rsi)\n"
      "mov %r12, 88(%rsi)\n mov %r13, 96(%rsi)\n mov %r14, 104(%rsi)\n mov %r15, 112(%rsi)\n"
      "pop %rax\n mov %rax, 32(%rsi)\n"
      "pushf\n pop %rax\n mov %rax, 120(%rsi)\n cld\n"
      "pop %rsi\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");
}

// Six values on the x87 stack, a control word and an mxcsr that nobody else uses.
void spin_x87(const long double* in, long double* out, std::uint16_t* control, std::uint32_t* status) {
  const std::uint16_t own_control = 0x0e7f;  // truncate, double precision
  const std::uint32_t own_status = 0xdfc0;   // truncate, flush to zero, denormals are zero
  const std::uint16_t usual_control = 0x037f;
  const std::uint32_t usual_status = 0x1f80;
  asm volatile(
      "fninit\n fldcw %[c]\n ldmxcsr %[s]\n"
      "fldt (%[in])\n fldt 16(%[in])\n fldt 32(%[in])\n fldt 48(%[in])\n fldt 64(%[in])\n fldt 80(%[in])\n"
      "1: cmpl $0, spin_over(%%rip)\n"
      "je 1b\n"
      "fnstcw (%[control])\n stmxcsr (%[status])\n"
      "fstpt 80(%[out])\n fstpt 64(%[out])\n fstpt 48(%[out])\n fstpt 32(%[out])\n fstpt 16(%[out])\n fstpt (%[out])\n"
      "fldcw %[uc]\n ldmxcsr %[us]\n"
      :
      : [in] "r"(in), [out] "r"(out), [control] "r"(control), [status] "r"(status), [c] "m"(own_control),
        [s] "m"(own_status), [uc] "m"(usual_control), [us] "m"(usual_status)
      : "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
}

void compare(Workload& w, const char* name, const std::uint64_t* in, const std::uint64_t* out, std::size_t words) {
  for (std::size_t i = 0; i < words; ++i) {
    w.check(in[i] == out[i], "%s: word %zu was %#llx and is %#llx", name, i, static_cast<unsigned long long>(in[i]),
            static_cast<unsigned long long>(out[i]));
  }
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::uint64_t zmm[264], ymm[64], xmm[32], general[15];
  std::uint64_t zmm_out[264] = {}, ymm_out[64] = {}, xmm_out[32] = {}, general_out[16] = {};
  fill(zmm, sizeof zmm, 1);
  fill(ymm, sizeof ymm, 2);
  fill(xmm, sizeof xmm, 3);
  fill(general, sizeof general, 4);
  long double x87[6] = {1.25L, -2.5e300L, 3e-310L, 0.0L, -7.0L, 1e4000L};
  long double x87_out[6] = {};
  std::uint16_t control = 0;
  std::uint32_t status = 0;
  unsigned long fs_before = 0, fs = 0, gs = 0;

  const bool avx = __builtin_cpu_supports("avx");
  const bool avx512 = __builtin_cpu_supports("avx512bw");
  std::thread threads[] = {
      std::thread([&] { spin_xmm(xmm, xmm_out); }),
      std::thread([&] {
        if (avx) spin_ymm(ymm, ymm_out);
      }),
      std::thread([&] {
        if (avx512) spin_zmm(zmm, zmm_out);
      }),
      std::thread([&] {
        syscall(SYS_arch_prctl, ARCH_SET_GS, 0x123456789000);
        syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_before);
        spin_general(general, general_out);
        syscall(SYS_arch_prctl, ARCH_GET_FS, &fs);
        syscall(SYS_arch_prctl, ARCH_SET_FS, fs_before);  // without it no thread can even end
        syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
      }),
      std::thread([&] { spin_x87(x87, x87_out, &control, &status); }),
  };
  pause_for(0.1);

  w.ready();
  w.wait_for_verify();
  spin_over = 1;
  for (std::thread& thread : threads) thread.join();

  compare(w, "xmm", xmm, xmm_out, std::size(xmm));
  if (avx) compare(w, "ymm", ymm, ymm_out, std::size(ymm));
  if (avx512) compare(w, "zmm and k", zmm, zmm_out, std::size(zmm));
  compare(w, "general registers", general, general_out, std::size(general));
  w.check((general_out[15] & 0x400) != 0, "the direction flag is clear");
  w.check(fs == fs_before, "the FS base is %#lx, was %#lx", fs, fs_before);
  w.check(gs == 0x123456789000, "the GS base is %#lx", gs);
  for (std::size_t i = 0; i < std::size(x87); ++i) {
    w.check(std::memcmp(&x87[i], &x87_out[i], 10) == 0, "x87 register %zu was %Lg and is %Lg", i, x87[i], x87_out[i]);
  }
  w.check(control == 0x0e7f, "the x87 control word is %#x", control);
  w.check((status & ~0x3fu) == 0xdfc0, "mxcsr is %#x", status);
  std::fprintf(stderr, "with%s AVX, with%s AVX-512\n", avx ? "" : "out", avx512 ? "" : "out");
  return w.finish();
}
