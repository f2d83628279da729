#include "common/net/channel.h"
#include "common/net/framing.h"
#include "common/net/listener.h"
#include "common/net/test_loop.h"
#include "common/net/within.h"
#include "tests/support/test_certs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

namespace godwit::net {
namespace {

using namespace std::chrono_literals;

// A server whose answers depend on the workload name that it is asked to run.
awaitable<api::Envelope> serve_request(api::Envelope request) {
  const std::string what = request.run_workload().name();
  if (what == "slow") co_await sleep_for(10s);
  if (what == "refuse") throw Error(Errc::refused, "not today", "try tomorrow");
  api::Envelope reply;
  reply.mutable_workload()->set_name(what);
  co_return reply;
}

api::Envelope run(const std::string& name) {
  api::Envelope e;
  e.mutable_run_workload()->set_name(name);
  return e;
}

class ChannelTest : public testing::Test {
 protected:
  test::TestCerts certs;
  asio::io_context io{1};
  TlsContext server_tls = TlsContext::load(certs.node("spiffe://godwit/coordinator"));
  TlsContext client_tls = TlsContext::load(certs.node("spiffe://godwit/agent/a"));
  Listener listener{io.get_executor(), "test", {"127.0.0.1", "0"}, server_tls};
  Address address = parse_address(to_string(listener.endpoint()));
  std::shared_ptr<Channel> served;
  std::vector<std::uint64_t> notices;
  std::optional<Error> closed;
  std::deque<std::string> answers;

  void serve() {
    listener.start([this](Connection c) { return accept(std::move(c)); });
  }
  awaitable<void> accept(Connection c) {
    served = Channel::start(std::move(c), {.request = serve_request,
                                           .notice = [this](api::Envelope e) { return note(std::move(e)); },
                                           .closed = [this](Error e) { closed = e; }});
    co_return;
  }
  awaitable<void> note(api::Envelope e) {
    co_await sleep_for(1ms);
    notices.push_back(e.progress().bytes());
  }
  awaitable<std::shared_ptr<Channel>> dial() {
    Connection c = co_await connect(address, client_tls, 5s);
    co_return Channel::start(std::move(c), {});
  }

  awaitable<void> ask_many() {
    const auto channel = co_await dial();
    for (int i = 0; i < 100; ++i) {
      const api::Envelope reply = co_await channel->ask(run(std::to_string(i)), 5s);
      EXPECT_EQ(reply.workload().name(), std::to_string(i));
    }
  }
  awaitable<void> be_refused() {
    const auto channel = co_await dial();
    try {
      co_await channel->ask(run("refuse"), 5s);
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_EQ(e.errc(), Errc::refused);
      EXPECT_EQ(e.message(), "not today");
      EXPECT_EQ(e.hint(), "try tomorrow");
    }
  }
  awaitable<void> ask_slow(std::shared_ptr<Channel> channel, Clock::duration limit) {
    co_await channel->ask(run("slow"), limit);
  }
  awaitable<void> time_out() {
    const auto channel = co_await dial();
    EXPECT_EQ(co_await code_of(ask_slow(channel, 30ms)), Errc::timed_out);
    const api::Envelope reply = co_await channel->ask(run("next"), 5s);
    EXPECT_EQ(reply.workload().name(), "next");
  }
  awaitable<void> post_many() {
    const auto channel = co_await dial();
    for (std::uint64_t i = 1; i <= 50; ++i) {
      api::Envelope e;
      e.mutable_progress()->set_bytes(i);
      co_await channel->post(std::move(e));
    }
    const api::Envelope reply = co_await channel->ask(run("after"), 5s);  // answered after all notices are handled
    EXPECT_EQ(notices.size(), 50u);
    EXPECT_TRUE(std::ranges::is_sorted(notices));
  }
  awaitable<void> lose_peer() {
    const auto channel = co_await dial();
    spawn(co_await asio::this_coro::executor, "closer", close_soon());
    const Errc code = co_await code_of(ask_slow(channel, 5s));
    EXPECT_EQ(code, Errc::peer_lost);
    EXPECT_FALSE(channel->is_open());
  }
  awaitable<void> close_soon() {
    co_await sleep_for(30ms);
    served->close();
  }
  awaitable<void> send_raw(std::string bytes) {
    Connection c = co_await connect(address, client_tls, 5s);
    co_await c.write(bytes);
    std::byte one{};
    while (co_await c.read_some({&one, 1}) != 0) {
    }
  }
  // Somebody in between, who gives every answer that there ever was before the one to what was asked just now.
  awaitable<void> answer_with_all_there_were(Connection c) {
    for (;;) {
      FrameHead head;
      co_await c.read_exact(head);
      std::string body(body_length(head, "client"), '\0');
      co_await c.read_exact(std::as_writable_bytes(std::span(body)));
      const api::Envelope request = parse_envelope(body, "client");
      api::Envelope reply = co_await serve_request(request);
      reply.set_id(request.id());
      reply.set_reply(true);
      for (const std::string& answer : answers) co_await c.write(answer);
      co_await sleep_for(5ms);  // they are read
      answers.push_back(frame(reply));
      co_await c.write(answers.back());
    }
  }
  awaitable<void> ask_anew_each_time() {
    for (int connection = 0; connection < 3; ++connection) {
      const auto channel = co_await dial();
      for (int i = 0; i < 5; ++i) {
        const std::string what = fmt::format("{} of {}", i, connection);
        const api::Envelope reply = co_await channel->ask(run(what), 5s);
        EXPECT_EQ(reply.workload().name(), what);
      }
    }
  }
  awaitable<void> be_cut_off(std::string bytes) { EXPECT_EQ(co_await code_of(send_raw(bytes)), Errc::peer_lost); }
};

TEST_F(ChannelTest, answers_requests_one_by_one_and_side_by_side) {
  serve();
  run_to_end(io, ask_many());
}

TEST_F(ChannelTest, carries_an_error_with_code_message_and_hint) {
  serve();
  run_to_end(io, be_refused());
}

TEST_F(ChannelTest, goes_on_after_a_request_has_timed_out) {
  serve();
  run_to_end(io, time_out());
}

TEST_F(ChannelTest, takes_no_answer_of_a_former_connection_for_one_of_its_own) {
  listener.start([this](Connection c) { return answer_with_all_there_were(std::move(c)); });
  run_to_end(io, ask_anew_each_time());
}

TEST_F(ChannelTest, handles_notices_in_order_and_before_later_requests) {
  serve();
  run_to_end(io, post_many());
}

TEST_F(ChannelTest, fails_pending_requests_when_the_peer_goes) {
  serve();
  run_to_end(io, lose_peer());
}

TEST_F(ChannelTest, ends_when_a_length_is_a_lie) {
  serve();
  for (const std::string& bytes :
       {std::string("\xff\xff\xff\xff", 4), std::string("\0\0\0\0", 4), std::string("\x02\0\0\0\xff\xff", 6)}) {
    closed.reset();
    run_to_end(io, be_cut_off(bytes));
    ASSERT_TRUE(closed);
    EXPECT_EQ(closed->errc(), Errc::protocol);
  }
}

}  // namespace
}  // namespace godwit::net
