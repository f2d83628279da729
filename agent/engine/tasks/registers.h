// Registers of a thread: general purpose, and the extended state (x87, SSE, AVX and what follows).
#pragma once

#include "agent/engine/ptrace/stop.h"
#include "common/image/x86.pb.h"

#include <cstdint>
#include <span>
#include <string>

namespace godwit::engine::tasks::registers {

// NT_X86_XSTATE of a stopped thread: the kernel's standard format, its size depends on the CPU.
std::string read_xstate(pid_t tid);

void dump(const Regs& regs, const std::string& xstate, image::ThreadInfoX86& into);

Regs restore(const image::ThreadInfoX86& from);
// The state in as many bytes as this CPU has for it: the raw one when the image has it, else CRIU's fields.
// Errc::unsupported when this CPU lacks a component that is in use.
std::string xstate_of(const image::ThreadInfoX86& from, std::size_t size);
void restore_xstate(pid_t tid, const image::ThreadInfoX86& from);

// XCR0 bits of what a process must ask for before it can use it: the tiles of AMX.
inline constexpr std::uint64_t on_request = 1 << 18;

// XCR0 bits in use (the xstate header's feature bits).
std::uint64_t features_in_use(std::string_view xstate);

}  // namespace godwit::engine::tasks::registers
