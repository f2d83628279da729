#include "common/pagewire/ring.h"

#include "common/base/check.h"
#include "common/base/passed_fds.h"
#include "common/base/waiting.h"

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstring>
#include <utility>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace godwit::pagewire {

struct Ring::Control {
  alignas(64) std::atomic<std::uint64_t> head;          // committed up to here; written by the producer
  alignas(64) std::atomic<std::uint64_t> tail;          // released up to here; written by the consumer
  alignas(64) std::atomic<std::uint32_t> space_wanted;  // the producer sleeps until there is space
};

namespace {

constexpr std::size_t slot = 64;  // alignment of records, and the room that a record's own header takes

enum class RecordKind : std::uint32_t { frame = 1, pad = 2 };

struct RecordHeader {
  RecordKind kind{};
  std::uint32_t length = 0;  // frame: of its bytes; pad: unused, a pad reaches to the end
  std::uint32_t begin = 0;   // frame: where it begins, behind the slot of this header
};
static_assert(sizeof(RecordHeader) <= slot && std::atomic<std::uint64_t>::is_always_lock_free);

constexpr std::uint64_t whole(std::uint64_t length) { return slot + ((length + slot - 1) & ~std::uint64_t{slot - 1}); }

void signal(int eventfd) {
  const std::uint64_t one = 1;
  // EAGAIN: the counter is full, so the other side has been signalled often enough.
  if (::write(eventfd, &one, sizeof one) < 0 && errno != EAGAIN) throw syscall_error(errno, "signal the ring");
}

void wait_for(int eventfd, std::chrono::milliseconds limit) {
  pollfd ready{.fd = eventfd, .events = POLLIN, .revents = 0};
  const int n = ::poll(&ready, 1, static_cast<int>(std::min<std::int64_t>(limit.count(), INT_MAX)));
  if (n < 0 && errno != EINTR) throw syscall_error(errno, "wait for the ring");
  std::uint64_t count;
  if (n > 0) std::ignore = ::read(eventfd, &count, sizeof count);
}

}  // namespace

RingFds make_ring(std::size_t capacity) {
  capacity = page_up(capacity);
  RingFds fds{
      .memory = UniqueFd(check(::memfd_create("godwit-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING), "make a ring")),
      .data = UniqueFd(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "make an eventfd")),
      .space = UniqueFd(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "make an eventfd")),
  };
  check(::ftruncate(fds.memory.get(), static_cast<off_t>(page_size + capacity)), "size the ring");
  // A producer that could shrink it could kill the consumer with SIGBUS.
  check(::fcntl(fds.memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), "seal the ring");
  return fds;
}

void send_ring(int socket, const RingFds& ring) {
  char sign = 'R';
  iovec part{&sign, sizeof sign};
  msghdr message{.msg_iov = &part, .msg_iovlen = 1};
  PassedFds passed;
  passed.attach(message, std::array{ring.memory.get(), ring.data.get(), ring.space.get()});
  if (::sendmsg(socket, &message, MSG_NOSIGNAL) >= 0) return;
  if (errno == EPIPE || errno == ECONNRESET) fail(Errc::peer_lost, "pass on a ring: the other end has gone");
  check(-1, "pass on a ring");
}

RingFds receive_ring(int socket, std::chrono::milliseconds limit) {
  wait_ready(socket, POLLIN, Clock::now() + limit, "be given a ring");
  char sign = 0;
  iovec part{&sign, sizeof sign};
  msghdr message{.msg_iov = &part, .msg_iovlen = 1};
  PassedFds passed;
  if (check(passed.receive(socket, message), "be given a ring") == 0)
    fail(Errc::peer_lost, "be given a ring: the other end has gone");
  std::vector<UniqueFd> fds = PassedFds::take(message);
  if (fds.size() != 3) fail(Errc::protocol, "a ring of {} descriptors", fds.size());
  return {.memory = std::move(fds[0]), .data = std::move(fds[1]), .space = std::move(fds[2])};
}

Ring::Ring(RingFds fds) : fds_(std::move(fds)) {
  struct stat status{};
  check(::fstat(fds_.memory.get(), &status), "stat the ring");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size < 2 * page_size || size % page_size != 0) fail(Errc::invalid_argument, "a ring of {} bytes", size);
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fds_.memory.get(), 0);
  if (at == MAP_FAILED) throw syscall_error(errno, "map the ring");
  control_ = static_cast<Control*>(at);
  bytes_ = static_cast<std::byte*>(at) + page_size;
  capacity_ = size - page_size;
  head_ = control_->head.load(std::memory_order_acquire);
  tail_ = read_ = control_->tail.load(std::memory_order_acquire);
}

Ring::~Ring() { ::munmap(control_, page_size + capacity_); }

std::span<std::byte> Ring::reserve(std::size_t length, std::chrono::milliseconds limit) {
  // More than half might never fit behind a pad.
  if (whole(length) > capacity_ / 2)
    fail(Errc::invalid_argument, "{} bytes do not fit a ring of {}", length, capacity_);
  const std::uint64_t offset = head_ % capacity_;
  const std::uint64_t pad = offset + whole(length) > capacity_ ? capacity_ - offset : 0;
  const std::uint64_t needed = pad + whole(length);
  const auto deadline = Clock::now() + limit;
  while (head_ + needed - control_->tail.load(std::memory_order_acquire) > capacity_) {
    control_->space_wanted.store(1);
    if (head_ + needed - control_->tail.load() <= capacity_) break;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) fail(Errc::timed_out, "the ring has been full for {} ms", limit.count());
    wait_for(fds_.space.get(), left);
  }
  control_->space_wanted.store(0, std::memory_order_relaxed);
  reserved_at_ = head_ + pad;
  reserved_ = length;
  return {bytes_ + reserved_at_ % capacity_ + slot, length};
}

void Ring::commit(std::size_t length, std::size_t begin) {
  if (begin > reserved_ || length > reserved_ - begin)
    fail(Errc::internal, "{} bytes from {} on committed of {} reserved", length, begin, reserved_);
  if (reserved_at_ != head_) {
    const RecordHeader pad{.kind = RecordKind::pad};
    std::memcpy(bytes_ + head_ % capacity_, &pad, sizeof pad);
  }
  const RecordHeader record{.kind = RecordKind::frame,
                            .length = static_cast<std::uint32_t>(length),
                            .begin = static_cast<std::uint32_t>(begin)};
  std::memcpy(bytes_ + reserved_at_ % capacity_, &record, sizeof record);
  head_ = reserved_at_ + whole(begin + length);
  reserved_ = 0;
  reserved_at_ = head_;
  control_->head.store(head_, std::memory_order_release);
  signal(fds_.data.get());
}

// The record at `position`, which moves on to the record's beginning when a pad stands there.
std::optional<Ring::Record> Ring::at(std::uint64_t& position) {
  const std::uint64_t head = control_->head.load(std::memory_order_acquire);
  for (;;) {
    const std::uint64_t available = head - position;
    if (available == 0) return {};
    const std::uint64_t offset = position % capacity_;
    if (available > capacity_ || available < slot || offset % slot != 0) fail(Errc::protocol, "the ring is damaged");
    RecordHeader record;
    std::memcpy(&record, bytes_ + offset, sizeof record);
    if (record.kind == RecordKind::pad && offset != 0 && capacity_ - offset <= available) {
      position += capacity_ - offset;
      continue;
    }
    const std::uint64_t length = whole(std::uint64_t{record.begin} + record.length);
    if (record.kind != RecordKind::frame || length > available || offset + length > capacity_)
      fail(Errc::protocol, "the ring is damaged");
    return Record{{bytes_ + offset + slot + record.begin, record.length}, position + length};
  }
}

std::optional<std::span<const std::byte>> Ring::front() {
  const auto record = at(tail_);
  if (!record) return {};
  return record->bytes;
}

std::optional<std::span<const std::byte>> Ring::next() {
  const auto record = at(read_);
  if (!record) return {};
  read_ = record->end;
  return record->bytes;
}

void Ring::release() {
  const auto record = at(tail_);
  if (!record) fail(Errc::internal, "nothing to release in the ring");
  tail_ = record->end;
  if (read_ < tail_) read_ = tail_;
  control_->tail.store(tail_);
  if (control_->space_wanted.load() != 0) signal(fds_.space.get());
}

}  // namespace godwit::pagewire
