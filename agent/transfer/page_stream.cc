#include "agent/transfer/page_stream.h"

#include "common/net/within.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <deque>
#include <thread>
#include <vector>

namespace godwit::transfer {

using namespace pagewire;
using net::awaitable;

namespace {

constexpr std::size_t batch_bytes = 1u << 20;  // written in one go, so that small frames share TLS records

struct Job {
  FrameHeader header;
  std::span<const std::byte> rest;
};

}  // namespace

// The home thread's side. Outlives the PageStream in callbacks that are on their way.
struct PageStream::Home {
  net::Executor executor;
  Events events;
  std::uint64_t queued = 0;
  bool ended = false;     // failed or destroyed: nothing more is reported
  bool finished = false;  // both sides have said goodbye
  net::Signal changed;

  Home(net::Executor e, Events ev) : executor(e), events(std::move(ev)), changed(e) {}
  void fail(Error error) {
    if (std::exchange(ended, true)) return;
    changed.notify();
    events.failed(std::move(error));
  }
};

struct PageStream::Remote {
  std::shared_ptr<Home> home;
  net::Connection connection;
  std::deque<Job> queue;
  net::Signal work;
  bool goodbye_wanted = false, goodbye_said = false;

  Remote(std::shared_ptr<Home> h, net::Executor executor) : home(std::move(h)), work(std::move(executor)) {}

  template <class Act>
  void tell(Act act) {
    net::asio::post(home->executor, [home = home, act = std::move(act)] {
      if (!home->ended) act(*home);
    });
  }
};

struct PageStream::Thread {
  net::asio::io_context io{1};
  net::asio::executor_work_guard<net::asio::io_context::executor_type> keep = net::asio::make_work_guard(io);
  std::thread thread{[this] { io.run(); }};
  ~Thread() { stop(); }
  void stop() {
    io.stop();
    if (thread.joinable()) thread.join();
  }
};

namespace {

using Shared = std::shared_ptr<PageStream::Remote>;

awaitable<void> write_frames(Shared r) {
  for (;;) {
    while (r->queue.empty() && !r->goodbye_wanted) co_await r->work.wait();
    if (r->queue.empty()) break;
    std::vector<Job> batch;
    std::vector<net::Bytes> pieces;
    std::size_t bytes = 0;
    while (!r->queue.empty() && bytes < batch_bytes) {
      batch.push_back(r->queue.front());
      r->queue.pop_front();
      bytes += sizeof(FrameHeader) + batch.back().rest.size();
    }
    for (const Job& job : batch) {
      pieces.push_back(std::as_bytes(std::span(&job.header, 1)));
      pieces.push_back(job.rest);
    }
    co_await r->connection.write(std::move(pieces));
    r->tell([bytes, last = batch.back().header.sequence](PageStream::Home& home) {
      home.queued -= bytes;
      home.events.written(last);
    });
  }
  r->goodbye_said = true;
  co_await r->connection.shutdown();
}

awaitable<void> read_answers(Shared r) {
  for (;;) {
    std::array<std::byte, sizeof(Answer)> bytes;
    const std::size_t first = co_await r->connection.read_some(bytes);
    if (first == 0 && r->goodbye_said) break;
    if (first == 0) fail(Errc::peer_lost, "the page server at {} has closed the connection", r->connection.address());
    co_await r->connection.read_exact(std::span(bytes).subspan(first));
    const Answer answer = parse_answer(bytes);
    if (answer.kind == AnswerKind::failed) throw error_of(answer.reason);
    if (answer.kind != AnswerKind::stored) fail(Errc::protocol, "the page server's answer comes out of turn");
    r->tell([answer](PageStream::Home& home) { home.events.stored(answer.sequence, answer.bytes); });
  }
  r->tell([](PageStream::Home& home) {
    home.finished = true;
    home.changed.notify();
  });
}

void run(Shared r, awaitable<void> loop, bool writer) {
  net::spawn(r->connection.executor(), std::move(loop), [r, writer](std::exception_ptr problem) {
    if (!problem) return;
    Error error = net::to_error(problem);
    // The page server may have said why before it hung up: let the reader find out, unless it waits in vain.
    if (writer && error.errc() == Errc::peer_lost) return;
    r->connection.close();
    r->tell([error = std::move(error)](PageStream::Home& home) { home.fail(error); });
  });
}

awaitable<void> greet(Shared r, StreamTarget target) {
  r->connection = co_await net::connect(target.address, target.tls, target.limit);
  net::require(r->connection.peer(), "agent", target.node);
  r->connection.fit_buffers();
  std::vector<net::Bytes> pieces{std::as_bytes(std::span(&target.hello, 1))};
  co_await r->connection.write(std::move(pieces));
  std::array<std::byte, sizeof(Answer)> bytes;
  awaitable<void> reading = r->connection.read_exact(bytes);
  co_await net::within(target.limit, "wait for the page server's welcome", std::move(reading));
  const Answer answer = parse_answer(bytes);
  if (answer.kind != AnswerKind::welcome) throw error_of(answer.reason);
  run(r, read_answers(r), false);
  run(r, write_frames(r), true);
}

}  // namespace

PageStream::PageStream(net::Executor home, Events events)
    : thread_(std::make_unique<Thread>()),
      home_(std::make_shared<Home>(std::move(home), std::move(events))),
      remote_(std::make_shared<Remote>(home_, thread_->io.get_executor())) {}

// Whatever the thread was doing is dropped; it must have ended before what it shares with us goes.
PageStream::~PageStream() {
  home_->ended = true;
  home_->changed.notify();
  thread_->stop();
}

awaitable<void> PageStream::open(StreamTarget target) {
  co_await net::asio::co_spawn(thread_->io, greet(remote_, std::move(target)), net::asio::use_awaitable);
}

void PageStream::send(const FrameHeader& header, std::span<const std::byte> rest) {
  home_->queued += sizeof header + rest.size();
  net::asio::post(thread_->io, [remote = remote_, job = Job{header, rest}] {
    remote->queue.push_back(job);
    remote->work.notify();
  });
}

std::uint64_t PageStream::queued_bytes() const { return home_->queued; }

namespace {

awaitable<void> goodbye(std::shared_ptr<PageStream::Home> home, Clock::duration limit) {
  const auto deadline = Clock::now() + limit;
  while (!home->finished && !home->ended)
    if (!co_await home->changed.wait_until(deadline) && !home->finished)
      fail(Errc::timed_out, "the page server has not said goodbye within {:.3g} s",
           std::chrono::duration<double>(limit).count());
  if (!home->finished) fail(Errc::peer_lost, "the page stream has failed");
}

}  // namespace

// No coroutine of its own: the stream may go while the goodbye is waited for.
awaitable<void> PageStream::finish(Clock::duration limit) {
  net::asio::post(thread_->io, [remote = remote_] {
    remote->goodbye_wanted = true;
    remote->work.notify();
  });
  return goodbye(home_, limit);
}

}  // namespace godwit::transfer
