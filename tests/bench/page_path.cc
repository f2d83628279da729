// How fast pages get from one place to the other, with nothing of a migration around it. Both ends share this machine's
// processors. Needs root.
//
//   ring to spool      engine's ring -> TLS on loopback -> page server -> tmpfs, where they are released unread
//   memory to memory   the whole page path: memory of a process -> ring -> ... -> spool -> fresh memory
//
//   page_path [--bytes 4G] [--streams N]... [--whole]      one line per number of streams, and JSON with --json
#include "agent/transfer/page_client.h"
#include "agent/transfer/spool.h"
#include "agent/transfer/test_page_server.h"
#include "common/base/units.h"
#include "common/net/test_loop.h"
#include "tests/bench/memory_ends.h"
#include "tests/support/test_certs.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstring>
#include <pwd.h>
#include <sys/resource.h>
#include <thread>

using namespace godwit;
using namespace godwit::pagewire;
using net::awaitable;

namespace {

const std::string token(32, 'T');
constexpr std::uint64_t spool_limit = 32u << 20;  // as a migration's

struct Result {
  unsigned streams;
  double seconds, gb_per_s, cpu_sender, cpu_server;
};

RingFds duplicate(const RingFds& fds) {
  const auto dup = [](const UniqueFd& fd) { return UniqueFd(check(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0), "dup")); };
  return {dup(fds.memory), dup(fds.data), dup(fds.space)};
}

double cpu_seconds(pid_t pid) {
  const std::string stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  unsigned long user = 0, system = 0;
  std::sscanf(stat.c_str() + stat.rfind(')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
              &system);
  return static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

// What a scan and process_vm_readv would do: fill frames of 64 pages.
void produce(Ring& ring, std::uint64_t frames) {
  const std::vector<std::byte> pages(max_payload, std::byte{0x5a});
  for (std::uint64_t i = 1; i <= frames; ++i) {
    FrameHeader h{.kind = FrameKind::pages, .runs = 1, .sequence = i, .object = 0x701, .payload_length = max_payload};
    const Run run{i * max_payload, max_payload / page_size};
    const auto space = ring.reserve(frame_length(h), std::chrono::seconds(30));
    std::memcpy(space.data() + sizeof h, &run, sizeof run);
    std::memcpy(space.data() + sizeof h + sizeof run, pages.data(), pages.size());
    std::memcpy(space.data(), &h, sizeof h);
    ring.commit(frame_length(h));
  }
}

class Bench {
 public:
  Bench(unsigned streams, std::uint64_t bytes, bool whole) : streams_(streams), frames_(bytes / max_payload) {
    if (whole) source_.emplace(bytes);
  }

  Result run() {
    net::run_to_end(io_, start(), std::chrono::seconds(10));
    const double sender = cpu_seconds(::getpid()), server = cpu_seconds(server_.pid());
    const auto begin = Clock::now();
    std::thread producer([this] {
      if (source_)
        source_->send(engine_);
      else
        produce(engine_, frames_);
    });
    net::run_to_end(io_, arrived(), std::chrono::seconds(300));
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    producer.join();
    return {streams_, seconds, static_cast<double>(frames_ * max_payload) / seconds / 1e9,
            cpu_seconds(::getpid()) - sender, cpu_seconds(server_.pid()) - server};
  }

 private:
  awaitable<void> start() {
    const auto listening = co_await server_.hear();
    const passwd* nobody = ::getpwnam("nobody");
    spool_ = transfer::make_spool(spool_limit, streams_, nobody->pw_uid, nobody->pw_gid);
    const auto copy = [this] { return UniqueFd(check(::fcntl(spool_.get(), F_DUPFD_CLOEXEC, 0), "dup")); };
    if (source_)
      destination_.emplace(frames_ * max_payload, source_->start(), copy(), spool_window(spool_limit, server_.max_streams),
                           [this](engine::Absorber::Freed freed) {
                             net::asio::post(io_, [this, freed] { released(freed.stream, freed.upto); });
                           });
    co_await server_.open("bench", token, "source", spool_limit, copy());
    co_await server_.hear();
    transfer::PageClient::Options o{.server = net::parse_address(listening->listening().address()),
                                    .tls = tls_,
                                    .node = "destination",
                                    .migration = "bench",
                                    .token = token,
                                    .streams = streams_};
    transfer::PageClient::Events events{.manifest = [this](std::string entries) { return take(std::move(entries)); },
                                        .stored = [this](std::uint64_t sequence) { sequence_ = sequence; },
                                        .failed = [](Error e) { throw e; }};
    client_ = co_await transfer::PageClient::connect(std::move(o), duplicate(fds_), std::move(events));
    net::spawn(io_.get_executor(), "listen", listen());
  }
  awaitable<void> take(std::string entries) {
    if (destination_) destination_->manifest(std::move(entries));
    co_return;
  }
  awaitable<void> arrived() {
    while (destination_ ? !destination_->complete() : sequence_ < frames_)
      co_await net::sleep_for(std::chrono::milliseconds(1));
  }
  awaitable<void> listen() {
    while (const auto m = co_await server_.hear()) {
      if (!m->has_stored()) continue;
      if (destination_)
        destination_->stored(m->stored().stream(), m->stored().upto());
      else
        released(m->stored().stream(), m->stored().upto());
    }
  }
  void released(std::uint32_t stream, std::uint64_t upto) {
    pageserver::ToServer r;
    r.mutable_released()->set_migration("bench");
    r.mutable_released()->set_stream(stream);
    r.mutable_released()->set_upto(upto);
    net::spawn(io_.get_executor(), "release", server_.say(std::move(r)));
  }

  unsigned streams_;
  std::uint64_t frames_, sequence_ = 0;
  std::optional<bench::SourceMemory> source_;  // first: forks
  test::TestCerts certs_;
  net::asio::io_context io_{1};
  net::TlsContext tls_ = net::TlsContext::load(certs_.node("spiffe://godwit/agent/source"));
  transfer::TestPageServer server_{io_.get_executor(), PAGESERVER, certs_.node("spiffe://godwit/agent/destination")};
  RingFds fds_ = make_ring();
  Ring engine_{duplicate(fds_)};
  UniqueFd spool_;
  std::unique_ptr<transfer::PageClient> client_;
  std::optional<bench::DestinationMemory> destination_;
};

}  // namespace

int main(int argc, char** argv) {
  std::string bytes = "4G", json;
  std::vector<unsigned> streams{1, 2};
  CLI::App app("Throughput of the page path on loopback.");
  app.add_option("--bytes", bytes)->capture_default_str();
  app.add_option("--streams", streams);
  bool whole = false;
  app.add_flag("--whole", whole, "from memory to memory");
  app.add_option("--json", json, "write the results to this file");
  CLI11_PARSE(app, argc, argv);
  nlohmann::json results = nlohmann::json::array();
  std::printf("%8s %9s %8s %12s %12s\n", "streams", "seconds", "GB/s", "CPU sender", "CPU server");
  for (const unsigned n : streams) {
    const Result r = Bench(n, parse_bytes(bytes), whole).run();
    std::printf("%8u %9.2f %8.2f %10.2f s %10.2f s\n", r.streams, r.seconds, r.gb_per_s, r.cpu_sender, r.cpu_server);
    results.push_back({{"streams", r.streams}, {"seconds", r.seconds}, {"gb_per_s", r.gb_per_s}});
  }
  if (!json.empty()) write_file(json, results.dump(2) + "\n");
}
