// A connection as the page server and the relay see it: bytes in and out, with deadlines. Blocking, one thread.
#pragma once

#include "common/base/buffer.h"
#include "common/base/fd.h"
#include "common/net/plain_socket.h"

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace godwit::pageserver::criu {

class Stream {
 public:
  virtual ~Stream() = default;
  // At least one byte; 0 at the end of the stream. Errc::timed_out, Errc::peer_lost, and Errc::protocol from TLS.
  virtual std::size_t receive(std::span<std::byte> into, net::Deadline deadline) = 0;
  // All of it. With TLS: in records of its own.
  virtual void send(std::span<const std::byte> data, net::Deadline deadline) = 0;
  // The same, but some of it may stay here until flush() or send().
  virtual void write(std::span<const std::byte> data, net::Deadline deadline) { send(data, deadline); }
  virtual void flush(net::Deadline) {}
  // Says that nothing more comes, and lets the peer hang up first, so that the port is free at once. Never throws.
  virtual void part(net::Deadline deadline) noexcept = 0;
};

class PlainStream : public Stream {
 public:
  explicit PlainStream(UniqueFd socket) : socket_(std::move(socket)) {}
  std::size_t receive(std::span<std::byte> into, net::Deadline deadline) override;
  void send(std::span<const std::byte> data, net::Deadline deadline) override;
  void part(net::Deadline deadline) noexcept override;
  int fd() const { return socket_.get(); }

 private:
  UniqueFd socket_;
};

// Reads ahead, so that many small runs do not cost a system call each. It has several buffers and fills them in turn:
// its spans are valid until theirs is taken again, which the owner of the spans is asked about before.
class BufferedReader {
 public:
  // `leaving` hears that buffer `from` is full, and returns when nobody needs what was read into buffer `to`.
  using Leaving = std::function<void(std::size_t from, std::size_t to)>;
  explicit BufferedReader(Stream& stream, std::size_t buffers = 1, Leaving leaving = {});

  bool has(std::size_t count) const { return buffered() >= count; }  // without a wait
  // Exactly `count` bytes, few of them; an empty span when the stream ends before the first.
  std::span<const std::byte> take(std::size_t count, net::Deadline deadline);
  // At least one byte of `most`; more while they are few and the stream has them. The end of the stream is an error.
  std::span<const std::byte> take_some(std::size_t most, net::Deadline deadline);

 private:
  std::size_t buffered() const { return end_ - begin_; }
  bool fill(std::size_t count, net::Deadline deadline);
  void make_room(std::size_t count);

  Stream& stream_;
  std::vector<Buffer> buffers_;
  Leaving leaving_;
  std::size_t current_ = 0;
  std::size_t begin_ = 0, end_ = 0;  // of what is in the current buffer
};

}  // namespace godwit::pageserver::criu
