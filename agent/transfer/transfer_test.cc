// Frames from the ring to the spool, and what ends their way.
#include "agent/transfer/transfer_fixture.h"

#include <gmock/gmock.h>

namespace godwit::transfer {
namespace {

TEST_F(TransferTest, carries_every_frame_to_the_place_that_the_manifest_names) {
  move_frames(2, 400);
  expect_spool_complete(400);
  EXPECT_EQ(client->counters().frames, 400u);
  EXPECT_EQ(client->counters().stored_sequence, 400u);
  net::run_to_end(io, finish());
  net::run_to_end(io, wait_ended());
  net::run_to_end(io, close_session());
  EXPECT_EQ(closed->frames(), 400u);
  EXPECT_EQ(closed->bytes(), spool_bytes());
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->code(), "");
  EXPECT_FALSE(failure);
}

TEST_F(TransferTest, works_with_one_stream_and_with_four) {
  move_frames(4, 100);
  expect_spool_complete(100);
}

TEST_F(TransferTest, refuses_a_wrong_token) {
  auto o = options(1);
  o.token = std::string(32, 'X');
  net::run_to_end(io, expect_refusal(o, Errc::denied));
  o.token = "short";
  net::run_to_end(io, expect_refusal(o, Errc::invalid_argument));
}

TEST_F(TransferTest, refuses_another_node_and_an_unknown_migration) {
  auto o = options(1);
  o.tls = net::TlsContext::load(certs.node("spiffe://godwit/agent/other"));
  net::run_to_end(io, expect_refusal(o, Errc::denied));
  o.tls = net::TlsContext::load(certs.node("spiffe://godwit/operator/source"));
  net::run_to_end(io, expect_refusal(o, Errc::denied));
  o = options(1);
  o.migration = "m2";
  net::run_to_end(io, expect_refusal(o, Errc::denied));
}

TEST_F(TransferTest, refuses_a_certificate_of_another_authority) {
  test::TestCerts others;
  auto o = options(1);
  o.tls = net::TlsContext::load(others.node("spiffe://godwit/agent/source"));
  net::run_to_end(io, expect_refusal(o, Errc::denied));
}

TEST_F(TransferTest, does_not_trust_a_page_server_of_another_node) {
  auto o = options(1);
  o.node = "elsewhere";
  net::run_to_end(io, expect_refusal(o, Errc::denied));
}

TEST_F(TransferTest, accepts_every_stream_only_once) {
  net::run_to_end(io, connect(options(2)));
  const auto first = std::move(client);
  net::run_to_end(io, expect_refusal(options(2), Errc::denied));
}

TEST_F(TransferTest, has_so_many_sessions_and_no_more) {
  const auto open = [this](std::string migration) -> awaitable<void> {
    UniqueFd copy(check(::fcntl(spool.get(), F_DUPFD_CLOEXEC, 0), "dup"));
    co_await server.open(migration, token, "source", limit(), std::move(copy));
  };
  for (int i = 2; i <= 16; ++i) net::run_to_end(io, open("m" + std::to_string(i)));
  net::run_to_end(io, net::sleep_for(100ms));
  EXPECT_FALSE(ended);
  net::run_to_end(io, open("m17"));
  net::run_to_end(io, wait_ended());
  EXPECT_EQ(ended->migration(), "m17");
  EXPECT_EQ(ended->code(), "busy");
  move_frames(2, 50);  // the others are none the worse
  expect_spool_complete(50);
}

TEST_F(TransferTest, notices_that_the_page_server_has_been_killed) {
  move_frames(2, 50);
  server.kill();
  net::run_to_end(io, wait_failure());
  EXPECT_EQ(failure->errc(), Errc::peer_lost);
}

TEST_F(TransferTest, ends_when_the_session_is_closed_under_it) {
  move_frames(2, 50);
  net::run_to_end(io, close_session());
  net::run_to_end(io, wait_failure());
  EXPECT_EQ(failure->errc(), Errc::peer_lost);
}

TEST_F(TransferTest, ends_with_its_agent) {
  server.control->close();
  EXPECT_TRUE(server.ended_well());
}

TEST_F(TransferTest, keeps_to_a_rate_that_can_be_changed) {
  auto o = options(1);
  o.rate_limit = 1 << 20;
  net::run_to_end(io, connect(o));
  for (std::uint64_t i = 1; i <= 20; ++i) emit(engine, i);
  net::run_to_end(io, net::sleep_for(100ms));
  EXPECT_LT(stored, 20u);
  client->set_rate_limit(0);
  net::run_to_end(io, wait_stored(20));
  expect_spool_complete(20);
}

TEST_F(TransferTest, gives_the_page_server_nothing_but_its_job) {
  const std::string status = read_file("/proc/" + std::to_string(server.pid()) + "/status");
  const std::string nobody = std::to_string(::getpwnam("nobody")->pw_uid);
  EXPECT_THAT(status, testing::HasSubstr("Uid:\t" + nobody + "\t" + nobody + "\t" + nobody));
  for (const char* line : {"Groups:\t \n", "NoNewPrivs:\t1", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000",
                           "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000"})
    EXPECT_THAT(status, testing::HasSubstr(line));
}

TEST_F(TransferTest, says_that_the_spool_takes_no_more_files_and_takes_them_when_it_does) {
  std::vector<std::string> fillers;
  for (int fd = 0; fd >= 0; fillers.push_back("filler-" + std::to_string(fillers.size()))) {
    fd =
        ::openat(spool.get(), ("filler-" + std::to_string(fillers.size())).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) ::close(fd);
  }
  net::run_to_end(io, expect_refusal(options(2), Errc::no_space));
  for (const std::string& filler : fillers) ::unlinkat(spool.get(), filler.c_str(), 0);
  move_frames(2, 50);
  expect_spool_complete(50);
}

class SmallSpool : public TransferTest {
 protected:
  std::uint64_t limit() const override { return 4 << 20; }

  awaitable<void> release_until(std::uint64_t sequence) {
    while (stored < sequence && !failure) {
      for (const std::uint32_t stream : {0, 1}) co_await release_upto(stream, announced[stream]);
      co_await net::sleep_for(1ms);
    }
  }
};

TEST_F(SmallSpool, stops_reading_when_nothing_is_released_and_goes_on_when_it_is) {
  release = false;
  net::run_to_end(io, connect(options(2)));
  std::thread producer([&] {
    for (std::uint64_t i = 1; i <= 800; ++i) emit(engine, i);  // about 100 MiB
  });
  net::run_to_end(io, net::sleep_for(1500ms));
  const std::uint64_t first = spool_bytes();
  EXPECT_LE(first, limit());
  EXPECT_GE(first, limit() / 2);
  net::run_to_end(io, net::sleep_for(200ms));
  EXPECT_EQ(spool_bytes(), first);
  EXPECT_LT(stored, 800u);
  net::run_to_end(io, release_until(800));
  producer.join();
  EXPECT_EQ(stored, 800u);
  EXPECT_EQ(spool_bytes(), first);  // the same memory again and again
  EXPECT_FALSE(failure);
}

TEST_F(SmallSpool, gives_up_when_nothing_moves_for_too_long) {
  release = false;
  auto o = options(1);
  o.stall_limit = 300ms;
  net::run_to_end(io, connect(o));
  std::thread producer([&] {
    for (std::uint64_t i = 1; i <= 30; ++i) emit(engine, i);  // about 4 MiB: spool and ring together hold them
  });
  net::run_to_end(io, wait_failure());
  producer.join();
  EXPECT_EQ(failure->errc(), Errc::timed_out);
}

class FullSpool : public TransferTest {
  std::uint64_t room() const override { return limit() / 8; }
};

TEST_F(FullSpool, is_told_to_both_sides) {
  net::run_to_end(io, connect(options(2)));
  std::thread producer([&] {
    try {
      for (std::uint64_t i = 1; i <= 2000; ++i) emit(engine, i);
    } catch (const Error&) {
    }
  });
  net::run_to_end(io, wait_failure());
  EXPECT_EQ(failure->errc(), Errc::no_space);
  net::run_to_end(io, wait_ended());
  net::run_to_end(io, close_session());
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->code(), "no_space");
  // Let the producer go: nobody takes its frames any more.
  Ring drain(duplicate(ring_fds));
  std::thread drainer([&] {
    for (int idle = 0; idle < 200; ++idle, ::usleep(1000))
      for (; drain.front(); idle = 0) drain.release();
  });
  producer.join();
  drainer.join();
}

}  // namespace
}  // namespace godwit::transfer
