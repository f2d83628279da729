#include "pageserver/store/uring_appender.h"

#include <algorithm>
#include <cstring>

#include <sys/mman.h>

namespace godwit::pageserver {

std::unique_ptr<UringAppender> UringAppender::create(UniqueFd& file) {
  constexpr std::size_t all = buffer_count * buffer_size;
  void* memory = ::mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw syscall_error(errno, "make write buffers");
  std::unique_ptr<UringAppender> a(new UringAppender);
  if (::io_uring_queue_init(buffer_count, &a->ring_, 0) < 0) {
    ::munmap(memory, all);
    return nullptr;
  }
  a->memory_ = static_cast<std::byte*>(memory);
  std::array<iovec, buffer_count> vectors;
  for (std::size_t i = 0; i < buffer_count; ++i) {
    a->buffers_[i].bytes = a->memory_ + i * buffer_size;
    vectors[i] = {a->buffers_[i].bytes, buffer_size};
  }
  if (::io_uring_register_buffers(&a->ring_, vectors.data(), vectors.size()) < 0) return nullptr;
  a->file_ = std::move(file);
  return a;
}

UringAppender::~UringAppender() {
  if (!memory_) return;
  ::io_uring_queue_exit(&ring_);  // waits for what is in flight
  ::munmap(memory_, buffer_count * buffer_size);
}

void UringAppender::append(std::span<const Piece> pieces) {
  for (Piece piece : pieces) {
    while (!piece.empty()) {
      if (filling_ == none) filling_ = free_buffer();
      Buffer& b = buffers_[filling_];
      const std::size_t n = std::min(piece.size(), buffer_size - b.length);
      std::memcpy(b.bytes + b.length, piece.data(), n);
      b.length += n;
      end_ += n;
      piece = piece.subspan(n);
      if (b.length == buffer_size) submit(std::exchange(filling_, none));
    }
  }
}

std::uint64_t UringAppender::stored() const {
  std::uint64_t first = end_;
  for (const Buffer& b : buffers_)
    if (b.length > 0) first = std::min(first, b.offset + b.written);
  return first;
}

void UringAppender::settle() {
  if (filling_ != none) submit(std::exchange(filling_, none));
  while (std::ranges::any_of(buffers_, &Buffer::in_flight)) complete_one();
}

void UringAppender::sync() {
  settle();
  check(::fsync(file_.get()), "sync the store");
}

unsigned UringAppender::free_buffer() {
  for (;;) {
    for (unsigned i = 0; i < buffer_count; ++i) {
      if (buffers_[i].in_flight) continue;
      buffers_[i].offset = end_;
      buffers_[i].length = buffers_[i].written = 0;
      return i;
    }
    complete_one();
  }
}

void UringAppender::submit(unsigned index) {
  Buffer& b = buffers_[index];
  io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);  // as many entries as buffers: never empty
  ::io_uring_prep_write_fixed(sqe, file_.get(), b.bytes + b.written, static_cast<unsigned>(b.length - b.written),
                              b.offset + b.written, static_cast<int>(index));
  ::io_uring_sqe_set_data64(sqe, index);
  b.in_flight = true;
  check_raw(::io_uring_submit(&ring_), "queue a write");
}

void UringAppender::complete_one() {
  io_uring_cqe* cqe = nullptr;
  int result;
  do result = ::io_uring_wait_cqe(&ring_, &cqe);
  while (result == -EINTR);
  check_raw(result, "wait for a write");
  const auto index = static_cast<unsigned>(::io_uring_cqe_get_data64(cqe));
  const int written = cqe->res;
  ::io_uring_cqe_seen(&ring_, cqe);
  Buffer& b = buffers_[index];
  b.in_flight = false;
  if (written != -EINTR && written != -EAGAIN) {
    check_raw(written, "write to the store");
    if (written == 0) fail(Errc::no_space, "write to the store: nothing was written");
    b.written += static_cast<std::size_t>(written);
  }
  if (b.written < b.length)
    submit(index);
  else
    b.length = b.written = 0;
}

}  // namespace godwit::pageserver
