// Where payload bytes go: a file that only grows, or a ring that is written over and over.
//
// Three ways to write: pwritev for a ring in memory, whose pages are there; a page file (common/base/page_file.h) for
// what grows in memory; io_uring for disks, where writes overlap with receiving. Single-threaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace godwit::pageserver {

using Piece = std::span<const std::byte>;

class Appender {
 public:
  virtual ~Appender() = default;

  // The pieces may be reused on return. Errc::no_space, or Errc::internal for other failures.
  virtual void append(std::span<const Piece> pieces) = 0;
  // Bytes from the beginning that have been written completely.
  virtual std::uint64_t stored() const = 0;
  // Waits until everything appended has been written.
  virtual void settle() = 0;
  // The same, and that it is on the disk. The last call: what grows may be longer than what was appended until then.
  virtual void sync() = 0;
};

// Creates `name` in `directory`; it must not exist. `window`: it is a ring of so many bytes; 0: it grows.
std::unique_ptr<Appender> create_appender(int directory, const std::string& name, std::uint64_t window = 0);

}  // namespace godwit::pageserver
