// A session on a socket pair, as a client sees it that says whatever it likes.
#pragma once

#include "common/image/test_dir.h"
#include "pageserver/criu/session.h"

#include <bit>
#include <future>
#include <optional>

#include <sys/socket.h>

namespace godwit::pageserver::criu {

constexpr pagewire::ObjectId task_12 = pagewire::object_id(pagewire::ObjectType::task, 12);

class TestSession {
 public:
  explicit TestSession(int directory, WriterOptions options = {}, SessionLimits limits = {},
                       pagewire::criu::HeaderSize size = pagewire::criu::HeaderSize::since_4_2)
      : size_(size) {
    auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_STREAM);
    client_ = std::move(ours);
    net::adopt_stream(theirs.get());
    done_ = std::async(std::launch::async, [=, socket = std::move(theirs)]() mutable -> std::optional<Error> {
      try {
        PlainStream stream(std::move(socket));
        ImageWriter images(directory, options);
        Session(stream, images, limits).run();
        return std::nullopt;
      } catch (const Error& e) {
        return e;
      }
    });
  }
  ~TestSession() { hang_up(); }

  void say(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(client_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;  // the server has hung up, which is what it says
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  }
  void say(const pagewire::criu::Header& header) { say(pagewire::criu::encode(size_, header).span()); }
  void run(std::uint64_t address, std::uint64_t pages, char content, pagewire::ObjectId object = task_12) {
    say({.command = pagewire::criu::Command::add,
         .flags = pagewire::criu::run_present,
         .pages = pages,
         .address = address,
         .object = object});
    const std::string data(pages * page_size, content);
    say(std::as_bytes(std::span(data)));
  }
  void hole(std::uint64_t address, std::uint64_t pages, pagewire::ObjectId object = task_12) {
    say({.command = pagewire::criu::Command::add,
         .flags = pagewire::criu::run_parent,
         .pages = pages,
         .address = address,
         .object = object});
  }
  // The answer, or -1 when the server hangs up.
  template <class T>
  int hear() {
    T value{};
    try {
      read_exact(client_.get(), std::as_writable_bytes(std::span(&value, 1)));
    } catch (const Error&) {
      return -1;
    }
    return static_cast<int>(value);
  }
  int open(pagewire::ObjectId object = task_12) {
    say({.command = pagewire::criu::Command::open2, .object = object});
    return hear<std::uint8_t>();
  }
  int parent_has(pagewire::ObjectId object = task_12) {
    say({.command = pagewire::criu::Command::parent, .object = object});
    return hear<std::int32_t>();
  }
  int close() {
    say({.command = pagewire::criu::Command::close});
    const int status = hear<std::int32_t>();
    hang_up();
    return status;
  }
  void hang_up() { client_.reset(); }
  // How the session ended: nothing, or its failure.
  std::optional<Error> outcome() { return done_.get(); }
  Errc failure() {
    const auto error = outcome();
    return error ? error->errc() : Errc{};
  }

 private:
  pagewire::criu::HeaderSize size_;
  UniqueFd client_;
  std::future<std::optional<Error>> done_;
};

}  // namespace godwit::pageserver::criu
