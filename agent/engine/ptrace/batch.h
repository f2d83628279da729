// A list of system calls that a target runs in one go, and the scratch memory they use.
//
// The scratch mapping in the target holds, from its start: the stub (one page), the table of calls, the
// data area. One ptrace round trip runs the whole table: 0.15 us per call against 60 us for one call per
// stop across CPUs (docs/engine.md).
//
//   Batch batch(scratch);
//   RemoteAddr path = batch.put("/etc/hostname");
//   std::size_t fd = batch.add("open", SYS_open, path, O_RDONLY);
//   remote.run(batch);
//   batch.result(fd);
#pragma once

#include "common/base/units.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace godwit::engine {

struct ScratchLayout {
  static constexpr std::size_t table = 0x1000;    // offset of the table of calls
  static constexpr std::size_t data = 0x40000;    // offset of the data area
  static constexpr std::size_t unused = 0x7f000;  // of the last page: nobody ever touches it, so that it tells what the
                                                  // kernel does to new mappings (tasks/process_flags.cc)
  static constexpr std::size_t size = 0x80000;    // of the whole mapping
};

// The position-independent code at the start of the scratch mapping.
struct Stub {
  static std::span<const std::byte> code();
  static std::size_t loop_offset();  // of the loop that runs a table: r15 = table, r14 = calls, r13 = signal of the end
};

class Batch {
 public:
  // `scratch` is the address of a scratch mapping with the stub in place.
  explicit Batch(RemoteAddr scratch) : scratch_(scratch) {}

  // Copies into the data area; returns the address in the target. 64-byte aligned.
  RemoteAddr put_bytes(std::span<const std::byte> bytes);
  RemoteAddr put(std::string_view text_with_nul);  // adds the NUL
  template <class T>
    requires std::is_trivially_copyable_v<T> && (!std::is_convertible_v<T, std::string_view>)
  RemoteAddr put(const T& value) {
    return put_bytes(std::as_bytes(std::span(&value, 1)));
  }
  RemoteAddr reserve(std::size_t bytes);  // zeroed room for a result

  // After run(): what the target's data area holds now.
  template <class T>
  T read(RemoteAddr at) const {
    T value;
    std::memcpy(&value, bytes_at(at, sizeof value).data(), sizeof value);
    return value;
  }
  std::span<const std::byte> bytes_at(RemoteAddr at, std::size_t length) const;

  // Adds a call; returns its index. `what` names it in errors. Arguments: integers, pointers as RemoteAddr.
  template <class... Args>
  std::size_t add(std::string_view what, long nr, Args... args) {
    return add_call(what, nr, {argument(args)...}, true);
  }
  // The same for a call that may fail: its result is left for the caller to look at.
  template <class... Args>
  std::size_t attempt(std::string_view what, long nr, Args... args) {
    return add_call(what, nr, {argument(args)...}, false);
  }

  bool empty() const { return calls_.empty(); }
  std::size_t size() const { return calls_.size(); }
  // Whether `calls` more calls with `bytes` of data still fit.
  bool fits(std::size_t calls, std::size_t bytes = 0) const;
  void clear();

  long result(std::size_t index) const { return static_cast<long>(calls_[index][7]); }

  RemoteAddr scratch() const { return scratch_; }

 private:
  friend class RemoteSyscalls;
  using Call = std::array<std::uint64_t, 8>;  // number, six arguments, result: the stub's layout

  static std::uint64_t argument(RemoteAddr a) { return raw(a); }
  template <class T>
    requires std::is_integral_v<T> || std::is_enum_v<T>
  static std::uint64_t argument(T v) {
    return static_cast<std::uint64_t>(v);
  }
  std::size_t add_call(std::string_view what, long nr, std::array<std::uint64_t, 6> args, bool must_succeed);
  void write_to(pid_t pid) const;
  void read_back(pid_t pid);
  void check_results() const;

  RemoteAddr scratch_;
  std::vector<Call> calls_;
  std::vector<std::byte> data_;
  std::vector<std::string> names_;
  std::vector<bool> must_succeed_;
};

}  // namespace godwit::engine
