// Registers of a thread: general purpose, and the extended state (x87, SSE, AVX and what follows).
#pragma once

#include "agent/engine/ptrace/stop.h"
#include "common/image/x86.pb.h"

#include <cstdint>
#include <string>
#include <string_view>

#include <sys/types.h>

namespace godwit::engine::tasks::registers {

// NT_X86_XSTATE of a stopped thread: the kernel's standard format, its size depends on the CPU. Valid until the calling
// thread reads another one.
std::string_view read_xstate(pid_t tid);

// Of the extended state, what lies behind the last component in use is not in the image: with AMX that is three quarters.
void dump(const Regs& regs, std::string_view xstate, image::ThreadInfoX86& into);

Regs restore(const image::ThreadInfoX86& from);
// The state in as many bytes as this CPU has for it: the raw one when the image has it, else CRIU's fields.
// Errc::unsupported when this CPU lacks a component that is in use.
std::string xstate_of(const image::ThreadInfoX86& from, std::size_t size);
void restore_xstate(pid_t tid, const image::ThreadInfoX86& from);

// XCR0 bits of what a process must ask for before it can use it: the tiles of AMX.
inline constexpr std::uint64_t on_request = 1 << 18;

// XCR0 bits that a stopped thread uses (the feature bits of the header of its extended state).
std::uint64_t read_features_in_use(pid_t tid);

}  // namespace godwit::engine::tasks::registers
