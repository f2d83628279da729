#include "agent/engine/ptrace/batch.h"

#include "common/base/check.h"

#include <sys/uio.h>

// r15 = next call, r14 = calls left, r13 = the signal of the end. Each record: number, six arguments, result.
//
// The end is a signal to itself: SIGSTOP, not int3. Should the engine die in that very moment, the signal is delivered,
// and it stops the target, where a SIGTRAP would kill it. A target that is continued there by anybody stops again.
// Where the first one is a signal that the target ignores, the next is SIGSTOP.
asm(R"(
 .pushsection .rodata
 .global godwit_stub_begin, godwit_stub_loop, godwit_stub_end
godwit_stub_begin:
 syscall
2: mov $39, %eax
 syscall
 mov %eax, %edi
 mov $186, %eax
 syscall
 mov %eax, %esi
 mov %r13d, %edx
 mov $234, %eax
 syscall
 mov $19, %r13d
 jmp 2b
godwit_stub_loop:
1: mov 0(%r15), %rax
 mov 8(%r15), %rdi
 mov 16(%r15), %rsi
 mov 24(%r15), %rdx
 mov 32(%r15), %r10
 mov 40(%r15), %r8
 mov 48(%r15), %r9
 syscall
 mov %rax, 56(%r15)
 add $64, %r15
 dec %r14
 jnz 1b
 jmp 2b
godwit_stub_end:
 .popsection
)");
extern "C" const std::byte godwit_stub_begin[], godwit_stub_loop[], godwit_stub_end[];

namespace godwit::engine {
namespace {
constexpr std::size_t alignment = 64;
constexpr std::size_t max_calls = (ScratchLayout::data - ScratchLayout::table) / 64;
constexpr std::size_t max_data = ScratchLayout::unused - ScratchLayout::data;
}  // namespace

std::span<const std::byte> Stub::code() { return {godwit_stub_begin, godwit_stub_end}; }
std::size_t Stub::loop_offset() { return static_cast<std::size_t>(godwit_stub_loop - godwit_stub_begin); }

RemoteAddr Batch::put_bytes(std::span<const std::byte> bytes) {
  const RemoteAddr at = reserve(bytes.size());
  if (!bytes.empty())
    std::memcpy(data_.data() + (raw(at) - raw(scratch_) - ScratchLayout::data), bytes.data(), bytes.size());
  return at;
}

RemoteAddr Batch::put(std::string_view text) {
  const RemoteAddr at = reserve(text.size() + 1);
  std::memcpy(data_.data() + (raw(at) - raw(scratch_) - ScratchLayout::data), text.data(), text.size());
  return at;
}

RemoteAddr Batch::reserve(std::size_t bytes) {
  const std::size_t offset = (data_.size() + alignment - 1) / alignment * alignment;
  if (offset + bytes > max_data) fail(Errc::internal, "a batch of calls needs more than {} bytes of data", max_data);
  data_.resize(offset + bytes);
  return scratch_ + (ScratchLayout::data + offset);
}

std::span<const std::byte> Batch::bytes_at(RemoteAddr at, std::size_t length) const {
  const std::uint64_t offset = raw(at) - raw(scratch_) - ScratchLayout::data;
  if (offset + length > data_.size()) fail(Errc::internal, "read outside of a batch's data");
  return std::span(data_).subspan(offset, length);
}

bool Batch::fits(std::size_t calls, std::size_t bytes) const {
  return calls_.size() + calls <= max_calls && data_.size() + bytes + calls * alignment <= max_data;
}

void Batch::clear() {
  calls_.clear();
  data_.clear();
  names_.clear();
  must_succeed_.clear();
}

std::size_t Batch::add_call(std::string_view what, long nr, std::array<std::uint64_t, 6> args, bool must_succeed) {
  if (calls_.size() == max_calls) fail(Errc::internal, "more than {} calls in one batch", max_calls);
  calls_.push_back({static_cast<std::uint64_t>(nr), args[0], args[1], args[2], args[3], args[4], args[5], 0});
  names_.emplace_back(what);
  must_succeed_.push_back(must_succeed);
  return calls_.size() - 1;
}

void Batch::write_to(pid_t pid) const {
  const std::array local{iovec{const_cast<Call*>(calls_.data()), calls_.size() * sizeof(Call)},
                         iovec{const_cast<std::byte*>(data_.data()), data_.size()}};
  const std::array remote{iovec{reinterpret_cast<void*>(raw(scratch_ + ScratchLayout::table)), local[0].iov_len},
                          iovec{reinterpret_cast<void*>(raw(scratch_ + ScratchLayout::data)), local[1].iov_len}};
  const std::size_t parts = data_.empty() ? 1 : 2;
  const ssize_t n =
      check(::process_vm_writev(pid, local.data(), parts, remote.data(), parts, 0), "write calls to process {}", pid);
  if (static_cast<std::size_t>(n) != local[0].iov_len + local[1].iov_len)
    fail(Errc::target_gone, "calls could not be written to process {}", pid);
}

void Batch::read_back(pid_t pid) {
  const std::array local{iovec{calls_.data(), calls_.size() * sizeof(Call)}, iovec{data_.data(), data_.size()}};
  const std::array remote{iovec{reinterpret_cast<void*>(raw(scratch_ + ScratchLayout::table)), local[0].iov_len},
                          iovec{reinterpret_cast<void*>(raw(scratch_ + ScratchLayout::data)), local[1].iov_len}};
  const std::size_t parts = data_.empty() ? 1 : 2;
  const ssize_t n =
      check(::process_vm_readv(pid, local.data(), parts, remote.data(), parts, 0), "read results of process {}", pid);
  if (static_cast<std::size_t>(n) != local[0].iov_len + local[1].iov_len)
    fail(Errc::target_gone, "results could not be read from process {}", pid);
}

void Batch::check_results() const {
  for (std::size_t i = 0; i < calls_.size(); i++)
    if (must_succeed_[i])
      check_raw(result(i), "{} ({:#x}, {:#x}, {:#x}) in the target", names_[i], calls_[i][1], calls_[i][2],
                calls_[i][3]);
}

}  // namespace godwit::engine
