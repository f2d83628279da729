// Appends through io_uring from registered buffers: 8 of 256 KiB, 2 MiB together, because the memlock limit of an
// unprivileged user is 8 MiB in all and several streams share it.
#pragma once

#include "common/base/fd.h"
#include "pageserver/store/appender.h"

#include <array>
#include <vector>

#include <liburing.h>

namespace godwit::pageserver {

class UringAppender : public Appender {
 public:
  // Takes `file` only when this kernel lets us; else returns nothing and leaves it alone.
  static std::unique_ptr<UringAppender> create(UniqueFd& file);
  ~UringAppender() override;

  void append(std::span<const Piece> pieces) override;
  std::uint64_t stored() const override;
  void settle() override;
  void sync() override;

 private:
  static constexpr std::size_t buffer_count = 8;
  static constexpr std::size_t buffer_size = 256 * 1024;
  static constexpr unsigned none = buffer_count;

  struct Buffer {
    std::byte* bytes = nullptr;
    std::uint64_t offset = 0;  // in the file
    std::size_t length = 0;    // filled
    std::size_t written = 0;
    bool in_flight = false;
  };

  UringAppender() = default;
  void submit(unsigned index);
  void complete_one();
  unsigned free_buffer();

  UniqueFd file_;
  io_uring ring_{};
  std::byte* memory_ = nullptr;
  std::array<Buffer, buffer_count> buffers_;
  unsigned filling_ = none;
  std::uint64_t end_ = 0;
};

}  // namespace godwit::pageserver
