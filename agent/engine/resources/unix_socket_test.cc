#include "agent/engine/resources/round_trip.h"
#include "agent/engine/resources/unix_address.h"
#include "common/base/passed_fds.h"

#include <csignal>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::engine::resources {
namespace {

void pair_at(int type, int first, int second) {
  int ends[2];
  check(::socketpair(AF_UNIX, type, 0, ends), "make a pair");
  place(ends[1], second);
  place(ends[0], first);
}

std::string unique(const std::string& what) { return fmt::format("/tmp/godwit-{}-{}.sock", what, ::getpid()); }

void bind_name(int fd, const std::string& name) {
  const UnixAddress address = unix_address(name);
  check(::bind(fd, address.get(), address.size), "bind");
}

int connect_name(int fd, const std::string& name) {
  const UnixAddress address = unix_address(name);
  return ::connect(fd, address.get(), address.size);
}

std::string name_of(int fd, bool peer) {
  sockaddr_un address{};
  socklen_t size = sizeof address;
  (peer ? ::getpeername : ::getsockname)(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return std::string(address.sun_path, size - offsetof(sockaddr_un, sun_path));
}

TEST(UnixPair, keeps_what_is_queued_both_ways) {
  const std::string bulk(60'000, 'w');
  EXPECT_EQ("", round_trip(
                    [&] {
                      pair_at(SOCK_STREAM, 4, 5);
                      check(::write(4, "ab", 2), "send");
                      check(::write(4, "cd", 2), "send");
                      check(::write(5, bulk.data(), bulk.size()), "send");
                    },
                    [&] {
                      std::string wrong = differs("first", "abcd", now_or_never(5, 100));
                      if (now_or_never(4, 100'000) != bulk) wrong += "bulk; ";
                      ::write(5, "x", 1);
                      return wrong << differs("alive", "x", now_or_never(4, 5));
                    }));
}

TEST(UnixPair, is_dumped_without_taking_anything_out) {
  const StoppedChild child([] {
    pair_at(SOCK_DGRAM, 4, 5);
    check(::write(4, "ab", 2), "send");
    check(::write(4, "cde", 3), "send");
  });
  dump_table(child);
  EXPECT_EQ("", restore_and_verify(dump_table(child), [] {
              return differs("first", "ab", now_or_never(5, 100))
                     << differs("second", "cde", now_or_never(5, 100)) << differs("no more", "", now_or_never(5, 100));
            }));
}

TEST(UnixPair, keeps_messages_apart_and_ends_shut) {
  EXPECT_EQ("", round_trip(
                    [] {
                      pair_at(SOCK_SEQPACKET, 4, 5);
                      check(::write(4, "one", 3), "send");
                      check(::write(4, "two", 3), "send");
                      check(::shutdown(4, SHUT_WR), "shut");
                    },
                    [] {
                      ::signal(SIGPIPE, SIG_IGN);
                      char byte = 0;
                      return differs("first", "one", now_or_never(5, 100))
                             << differs("second", "two", now_or_never(5, 100)) << differs("end", 0, ::read(5, &byte, 1))
                             << differs("shut", -1, ::write(4, "x", 1)) << differs("other way", 1, ::write(5, "x", 1));
                    }));
}

TEST(UnixPair, whose_other_end_is_closed_can_be_read_to_the_end) {
  EXPECT_EQ("", round_trip(
                    [] {
                      pair_at(SOCK_STREAM, 4, 5);
                      check(::write(5, "last words", 10), "send");
                      ::close(5);
                    },
                    [] {
                      char byte = 0;
                      return differs("rest", "last words", now_or_never(4, 100))
                             << differs("end", 0, ::read(4, &byte, 1));
                    }));
}

TEST(UnixPair, shared_by_two_numbers_stays_shared) {
  EXPECT_EQ("", round_trip(
                    [] {
                      pair_at(SOCK_STREAM, 4, 5);
                      check(::dup2(4, 7), "share");
                    },
                    [] {
                      ::close(4);
                      ::write(7, "x", 1);
                      return differs("alive", "x", now_or_never(5, 5));
                    }));
}

TEST(UnixListener, takes_its_path_again_with_owner_and_mode) {
  const std::string path = unique("listener");
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), 4);
                      bind_name(4, path);
                      check(::chmod(path.c_str(), 0620), "chmod");
                      check(::listen(4, 5), "listen");
                    },
                    [&] {
                      struct stat st{};
                      ::stat(path.c_str(), &st);
                      std::string wrong = differs("mode", 0140620u, st.st_mode);
                      place(::socket(AF_UNIX, SOCK_STREAM, 0), 9);
                      wrong += differs("connects", 0, connect_name(9, path));
                      return wrong << differs("accepts", true, ::accept(4, nullptr, nullptr) >= 0);
                    }));
  std::filesystem::remove(path);
}

TEST(UnixListener, does_not_take_a_path_from_one_that_lives) {
  const std::string path = unique("taken");
  Dumped dumped;
  {
    const StoppedChild child([&] {
      place(::socket(AF_UNIX, SOCK_STREAM, 0), 4);
      bind_name(4, path);
      check(::listen(4, 5), "listen");
    });
    dumped = dump_table(child);
    EXPECT_THAT(restore_and_verify(dumped, [] { return std::string(); }),
                ::testing::HasSubstr("somebody else listens"));
  }
  std::filesystem::remove(path);
}

TEST(UnixListener, with_an_abstract_name_and_its_connection_come_back) {
  const std::string name = std::string(1, '\0') + fmt::format("godwit-{}", ::getpid());
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::socket(AF_UNIX, SOCK_STREAM, 0), 4);
                      bind_name(4, name);
                      check(::listen(4, 5), "listen");
                      place(::socket(AF_UNIX, SOCK_STREAM, 0), 5);
                      check(connect_name(5, name), "connect");
                      place(::accept(4, nullptr, nullptr), 6);
                      check(::write(5, "hi", 2), "send");
                    },
                    [&] {
                      std::string wrong = differs("queued", "hi", now_or_never(6, 10));
                      if (name_of(6, false) != name || name_of(5, true) != name) wrong += "name of the connection; ";
                      place(::socket(AF_UNIX, SOCK_STREAM, 0), 9);
                      return wrong << differs("connects", 0, connect_name(9, name));
                    }));
}

TEST(UnixListener, shows_the_credentials_of_its_user) {
  const std::string name = std::string(1, '\0') + fmt::format("godwit-user-{}", ::getpid());
  EXPECT_EQ("", round_trip(
                    [&] {
                      check(::setresgid(65534, 65534, 65534), "setresgid");
                      check(::setresuid(65534, 65534, 65534), "setresuid");
                      place(::socket(AF_UNIX, SOCK_STREAM, 0), 4);
                      bind_name(4, name);
                      check(::listen(4, 5), "listen");
                      pair_at(SOCK_STREAM, 5, 6);
                    },
                    [&] {
                      place(::socket(AF_UNIX, SOCK_STREAM, 0), 9);
                      std::string wrong = differs("connects", 0, connect_name(9, name));
                      for (const int fd : {5, 6, 9}) {
                        ucred shown{};
                        socklen_t size = sizeof shown;
                        ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &shown, &size);
                        wrong += differs("user", 65534u, shown.uid) << differs("group", 65534u, shown.gid);
                      }
                      struct stat st{};
                      ::fstat(4, &st);
                      return wrong << differs("owner", 65534u, st.st_uid) << differs("still root", 0u, ::geteuid());
                    }));
}

TEST(UnixDatagram, bound_socket_keeps_its_messages) {
  const std::string path = unique("datagram");
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::socket(AF_UNIX, SOCK_DGRAM, 0), 4);
                      bind_name(4, path);
                      place(::socket(AF_UNIX, SOCK_DGRAM, 0), 5);
                      check(connect_name(5, path), "connect");
                      check(::write(5, "one", 3), "send");
                    },
                    [&] {
                      std::string wrong = differs("queued", "one", now_or_never(4, 10));
                      ::write(5, "two", 3);
                      return wrong << differs("connected", "two", now_or_never(4, 10));
                    }));
  std::filesystem::remove(path);
}

TEST(UnixPair, with_descriptors_in_flight_asks_to_try_again) {
  const StoppedChild child([] {
    pair_at(SOCK_STREAM, 4, 5);
    char byte = 'x';
    iovec data{&byte, 1};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    PassedFds passed;
    const int sent = 0;
    passed.attach(message, std::span(&sent, 1));
    check(::sendmsg(4, &message, 0), "send a descriptor");
  });
  try {
    dump_table(child);
    ADD_FAILURE() << "dumped";
  } catch (const Error& e) {
    EXPECT_EQ(Errc::busy, e.errc());
  }
}

TEST(UnixPair, with_its_other_end_in_another_process_is_refused) {
  int ends[2];
  check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "make a pair");
  const int listener = check(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  const std::string name = std::string(1, '\0') + fmt::format("godwit-outside-{}", ::getpid());
  bind_name(listener, name);
  check(::listen(listener, 5), "listen");
  const StoppedChild child([&] {
    place(::socket(AF_UNIX, SOCK_STREAM, 0), 4);
    check(connect_name(4, name), "connect");
  });
  const UniqueFd accepted(::accept(listener, nullptr, nullptr));
  const std::vector<Refusal> refusals = survey_fds(child.pid(), {}).refusals;
  ASSERT_EQ(1u, refusals.size());
  EXPECT_THAT(refusals[0].reason, ::testing::HasSubstr("another process (@godwit-outside"));
  for (const int fd : {ends[0], ends[1], listener}) ::close(fd);
}

}  // namespace
}  // namespace godwit::engine::resources
