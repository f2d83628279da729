#include "agent/engine/tasks/registers.h"

#include "common/base/check.h"

#include <algorithm>
#include <array>
#include <cpuid.h>
#include <cstring>
#include <elf.h>
#include <optional>
#include <span>
#include <sys/ptrace.h>
#include <sys/uio.h>

namespace godwit::engine::tasks::registers {
namespace {

constexpr std::size_t legacy_size = 512, header_size = 64;
constexpr std::size_t mxcsr_at = 24, st_at = 32, xmm_at = 160;

// A component of the extended state that CRIU has a field for: where it lies tells CPUID leaf 0xd.
struct Component {
  unsigned number;
  std::size_t bytes;
};
constexpr Component ymm{2, 256}, bndregs{3, 64}, bndcsr{4, 16}, opmask{5, 64}, zmm_upper{6, 512}, hi16_zmm{7, 1024},
    pkru{9, 8};
constexpr std::array known_components{ymm, bndregs, bndcsr, opmask, zmm_upper, hi16_zmm, pkru};

std::size_t ask_offset(unsigned component) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  __get_cpuid_count(0xd, component, &a, &b, &c, &d);
  return a ? b : 0;
}

// CPUID leaves a virtual machine, which costs more than all else that is read of a thread (25 us): asked once, of those
// in use. Images name others, too: any of 64.
std::size_t offset_of(unsigned component) {
  thread_local std::array<std::optional<std::size_t>, 64> offsets;
  std::optional<std::size_t>& known = offsets.at(component);
  if (!known) known = ask_offset(component);
  return *known;
}

template <class T>
T load(std::string_view from, std::size_t at) {
  T value{};
  std::memcpy(&value, from.data() + at, sizeof value);
  return value;
}

template <class Field>
void get(std::string_view xstate, const Component& c, std::uint64_t in_use, Field* field) {
  using T = std::remove_cvref_t<decltype(*field->begin())>;
  if (!(in_use >> c.number & 1)) return;
  const std::size_t at = offset_of(c.number);
  if (!at || at + c.bytes > xstate.size()) return;
  for (std::size_t i = 0; i < c.bytes; i += sizeof(T)) field->Add(load<T>(xstate, at + i));
}

template <class Field>
void put(std::string& xstate, const Component& c, const Field& field) {
  using T = std::remove_cvref_t<decltype(*field.begin())>;
  if (field.empty()) return;
  const std::size_t at = offset_of(c.number);
  const std::size_t bytes = static_cast<std::size_t>(field.size()) * sizeof(T);
  if (!at || at + bytes > xstate.size())
    fail(Errc::unsupported, "this CPU has no place for extended state component {}", c.number);
  std::memcpy(xstate.data() + at, field.data(), bytes);
}

std::uint64_t features_in_use(std::string_view x) {
  return x.size() < legacy_size + header_size ? 3 : load<std::uint64_t>(x, legacy_size);
}

// Up to the end of the last component in use. All of it when one has a place that nobody here knows.
std::size_t size_in_use(std::string_view x) {
  std::size_t end = std::min(legacy_size + header_size, x.size());
  const std::uint64_t in_use = features_in_use(x);
  for (unsigned number = 2; number < 64; number++) {
    if (!(in_use >> number & 1)) continue;
    const auto* const c = std::ranges::find(known_components, number, &Component::number);
    if (c == known_components.end() || !offset_of(number)) return x.size();
    end = std::max(end, offset_of(number) + c->bytes);
  }
  return std::min(end, x.size());
}

std::string_view read_regset(pid_t tid, std::span<char> into) {
  iovec view{into.data(), into.size()};
  trace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, reinterpret_cast<unsigned long>(&view), "read the extended state of");
  return {into.data(), view.iov_len};
}

void dump_fpregs(std::string_view x, image::UserX86FpregsEntry& fp) {
  fp.set_cwd(load<std::uint16_t>(x, 0));
  fp.set_swd(load<std::uint16_t>(x, 2));
  fp.set_twd(load<std::uint16_t>(x, 4));
  fp.set_fop(load<std::uint16_t>(x, 6));
  fp.set_rip(load<std::uint64_t>(x, 8));
  fp.set_rdp(load<std::uint64_t>(x, 16));
  fp.set_mxcsr(load<std::uint32_t>(x, mxcsr_at));
  fp.set_mxcsr_mask(load<std::uint32_t>(x, mxcsr_at + 4));
  for (std::size_t i = 0; i < 32; i++) fp.add_st_space(load<std::uint32_t>(x, st_at + 4 * i));
  for (std::size_t i = 0; i < 64; i++) fp.add_xmm_space(load<std::uint32_t>(x, xmm_at + 4 * i));
  if (x.size() < legacy_size + header_size) return;
  const std::uint64_t in_use = features_in_use(x);
  image::UserX86XsaveEntry& xs = *fp.mutable_xsave();
  xs.set_xstate_bv(in_use);
  get(x, ymm, in_use, xs.mutable_ymmh_space());
  get(x, bndregs, in_use, xs.mutable_bndreg_state());
  get(x, bndcsr, in_use, xs.mutable_bndcsr_state());
  get(x, opmask, in_use, xs.mutable_opmask_reg());
  get(x, zmm_upper, in_use, xs.mutable_zmm_upper());
  get(x, hi16_zmm, in_use, xs.mutable_hi16_zmm());
  get(x, pkru, in_use, xs.mutable_pkru());
}

template <class T>
void store(std::string& into, std::size_t at, T value) {
  std::memcpy(into.data() + at, &value, sizeof value);
}

// `x` has this CPU's size.
void build_xstate(const image::UserX86FpregsEntry& fp, std::string& x) {
  std::memset(x.data(), 0, x.size());
  store(x, 0, static_cast<std::uint16_t>(fp.cwd()));
  store(x, 2, static_cast<std::uint16_t>(fp.swd()));
  store(x, 4, static_cast<std::uint16_t>(fp.twd()));
  store(x, 6, static_cast<std::uint16_t>(fp.fop()));
  store(x, 8, fp.rip());
  store(x, 16, fp.rdp());
  store(x, mxcsr_at, fp.mxcsr());
  store(x, mxcsr_at + 4, fp.mxcsr_mask());
  for (int i = 0; i < std::min(32, fp.st_space_size()); i++)
    store(x, st_at + 4 * static_cast<std::size_t>(i), fp.st_space(i));
  for (int i = 0; i < std::min(64, fp.xmm_space_size()); i++)
    store(x, xmm_at + 4 * static_cast<std::size_t>(i), fp.xmm_space(i));
  if (x.size() < legacy_size + header_size) return;
  const image::UserX86XsaveEntry& xs = fp.xsave();
  store(x, legacy_size, fp.has_xsave() ? xs.xstate_bv() : std::uint64_t{3});
  put(x, ymm, xs.ymmh_space());
  put(x, bndregs, xs.bndreg_state());
  put(x, bndcsr, xs.bndcsr_state());
  put(x, opmask, xs.opmask_reg());
  put(x, zmm_upper, xs.zmm_upper());
  put(x, hi16_zmm, xs.hi16_zmm());
  put(x, pkru, xs.pkru());
}

}  // namespace

std::string_view read_xstate(pid_t tid) {
  thread_local std::array<char, 16 * 1024> room;
  return read_regset(tid, room);
}

std::uint64_t read_features_in_use(pid_t tid) {
  std::array<char, legacy_size + header_size> room;
  return features_in_use(read_regset(tid, room));
}

void dump(const Regs& r, std::string_view xstate, image::ThreadInfoX86& into) {
  image::UserX86RegsEntry& g = *into.mutable_gpregs();
  g.set_r15(r.r15);
  g.set_r14(r.r14);
  g.set_r13(r.r13);
  g.set_r12(r.r12);
  g.set_bp(r.rbp);
  g.set_bx(r.rbx);
  g.set_r11(r.r11);
  g.set_r10(r.r10);
  g.set_r9(r.r9);
  g.set_r8(r.r8);
  g.set_ax(r.rax);
  g.set_cx(r.rcx);
  g.set_dx(r.rdx);
  g.set_si(r.rsi);
  g.set_di(r.rdi);
  g.set_orig_ax(r.orig_rax);
  g.set_ip(r.rip);
  g.set_cs(r.cs);
  g.set_flags(r.eflags);
  g.set_sp(r.rsp);
  g.set_ss(r.ss);
  g.set_fs_base(r.fs_base);
  g.set_gs_base(r.gs_base);
  g.set_ds(r.ds);
  g.set_es(r.es);
  g.set_fs(r.fs);
  g.set_gs(r.gs);
  g.set_mode(image::X86_NATIVE);
  dump_fpregs(xstate, *into.mutable_fpregs());
  into.set_xstate(xstate.data(), size_in_use(xstate));
}

Regs restore(const image::ThreadInfoX86& from) {
  const image::UserX86RegsEntry& g = from.gpregs();
  Regs r{};
  r.r15 = g.r15();
  r.r14 = g.r14();
  r.r13 = g.r13();
  r.r12 = g.r12();
  r.rbp = g.bp();
  r.rbx = g.bx();
  r.r11 = g.r11();
  r.r10 = g.r10();
  r.r9 = g.r9();
  r.r8 = g.r8();
  r.rax = g.ax();
  r.rcx = g.cx();
  r.rdx = g.dx();
  r.rsi = g.si();
  r.rdi = g.di();
  r.orig_rax = g.orig_ax();
  r.rip = g.ip();
  r.cs = g.cs();
  r.eflags = g.flags();
  r.rsp = g.sp();
  r.ss = g.ss();
  r.fs_base = g.fs_base();
  r.gs_base = g.gs_base();
  r.ds = g.ds();
  r.es = g.es();
  r.fs = g.fs();
  r.gs = g.gs();
  return r;
}

std::string xstate_of(const image::ThreadInfoX86& from, std::size_t size) {
  std::string x;
  if (from.has_xstate() && from.xstate().size() >= legacy_size + header_size) {
    x = from.xstate();
    const std::uint64_t in_use = features_in_use(x);
    for (unsigned c = 2; c < 63; c++)
      if ((in_use >> c & 1) && (!offset_of(c) || offset_of(c) >= size))
        fail(Errc::unsupported, "extended state component {} is in use, and this CPU does not have it", c);
    x.resize(size);
  } else {
    x.resize(size);
    build_xstate(from.fpregs(), x);
  }
  return x;
}

void restore_xstate(pid_t tid, const image::ThreadInfoX86& from) {
  std::string x = xstate_of(from, read_xstate(tid).size());  // this CPU's size
  iovec view{x.data(), x.size()};
  trace(PTRACE_SETREGSET, tid, NT_X86_XSTATE, reinterpret_cast<unsigned long>(&view), "write the extended state of");
}

}  // namespace godwit::engine::tasks::registers
