// A single-producer single-consumer byte ring in shared memory: the engine writes frames, the agent sends them; or
// pages, which the relay to a page server sends.
//
// The memfd holds one page of control words and `capacity` bytes of data. Records are whole frames,
// 64-byte aligned, never wrapped: a frame that does not fit before the end is preceded by a pad record.
// The consumer sends straight out of the ring and releases a frame when its bytes have been handed to the
// kernel. Blocking is by two eventfds (data, space), so that one side may be an event loop.
//
// Trust: the consumer (agent or relay, root) makes it, and maps what the producer (engine, root) writes; lengths are
// still checked, because a crashed producer may have left half a record. A record becomes visible only when committed.
#pragma once

#include "common/base/fd.h"
#include "common/pagewire/frame.h"

#include <chrono>
#include <optional>
#include <span>

namespace godwit::pagewire {

struct RingFds {
  UniqueFd memory;  // memfd, sealed against resizing
  UniqueFd data;    // eventfd: the producer signals new records
  UniqueFd space;   // eventfd: the consumer signals released space
};

// More would not make a stream faster, what is under way to the other node is in the socket, but be out of the caches
// between the two ends.
inline constexpr std::size_t default_ring_capacity = 4u << 20;
RingFds make_ring(std::size_t capacity = default_ring_capacity);

// From one end to the other, over a unix socket. Errc::peer_lost, Errc::timed_out.
void send_ring(int socket, const RingFds& ring);
RingFds receive_ring(int socket, std::chrono::milliseconds limit);

class Ring {
 public:
  explicit Ring(RingFds fds);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Producer: reserves `length` contiguous bytes, waiting for space at most `limit`; Errc::timed_out after it.
  std::span<std::byte> reserve(std::size_t length, std::chrono::milliseconds limit);
  // Publishes a record: `length` bytes of the last reservation, from its byte `begin` on.
  void commit(std::size_t length, std::size_t begin = 0);

  // Consumer: the oldest record, or nothing. The bytes stay valid until release().
  std::optional<std::span<const std::byte>> front();
  void release();
  // Consumer: one record further than the unreleased ones, for several frames in flight. In order.
  std::optional<std::span<const std::byte>> next();

  int data_fd() const { return fds_.data.get(); }
  std::size_t capacity() const { return capacity_; }

 private:
  struct Control;
  RingFds fds_;
  Control* control_ = nullptr;
  std::byte* bytes_ = nullptr;
  std::size_t capacity_ = 0;
  struct Record {
    std::span<const std::byte> bytes;
    std::uint64_t end;  // position of the next one
  };
  std::optional<Record> at(std::uint64_t& position);

  // Positions count bytes from the beginning of time. Each side keeps its own here: what the other side could
  // have overwritten in the control page is never read back.
  std::uint64_t head_ = 0, reserved_at_ = 0, reserved_ = 0;  // producer
  std::uint64_t tail_ = 0, read_ = 0;                        // consumer: release(), next()
};

}  // namespace godwit::pagewire
