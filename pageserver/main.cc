// godwit-pageserver: receives pages over TLS into spools that the agent opens. Unprivileged; ends with its agent.
// For work by hand, by CRIU's protocol: `page-server` is one session of it, `page-relay` the way of a dump to one.
#include "common/base/log.h"
#include "common/base/standard_streams.h"
#include "common/net/tls.h"
#include "pageserver/criu/page_server.h"
#include "pageserver/criu/relay.h"
#include "pageserver/privileges.h"
#include "pageserver/server.h"

#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <unistd.h>

using namespace godwit;

namespace {

// Undumpable, hence untraceable: the leak checker of an ASan build would fail in it.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }

struct Settings {
  int control_fd = -1;
  std::string listen, certs, user = "nobody";
  unsigned threads = std::clamp(std::thread::hardware_concurrency(), 1u, 4u);
};

[[noreturn]] void serve(const Settings& s) {
  net::asio::io_context io(1);
  // A stream that has said hello is its worker's: what is served here are peers without a word.
  net::ListenerOptions limits{.handshakes = 64, .connections = 64, .overload = net::Overload::oldest_gives_way};
  net::Listener listener(io.get_executor(), "pageserver", net::parse_address(s.listen), net::TlsContext::load(s.certs),
                         limits);
  pageserver::drop_privileges(s.user);
  pageserver::Workers workers(s.threads);
  pageserver::Server server(io.get_executor(), workers, UniqueFd(s.control_fd), listener);
  net::spawn(io.get_executor(), server.run(), [](std::exception_ptr problem) {
    if (problem) log::error("pageserver.failed", {{"message", net::to_error(problem).message()}});
    // Streams may be in the middle of anything: nothing here outlives the process anyway.
    ::_exit(problem ? 1 : 0);
  });
  io.run();
  ::_exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  survive_broken_pipes();
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "page-server") return pageserver::criu::page_server_main(argc - 1, argv + 1);
  if (command == "page-relay") return pageserver::criu::relay_main(argc - 1, argv + 1);
  Settings s;
  CLI::App app("Receives pages over TLS for the agent that starts it.", "godwit-pageserver");
  app.add_option("--control-fd", s.control_fd, "descriptor of the control socket (SOCK_SEQPACKET)")->required();
  app.add_option("--listen", s.listen, "ADDR:PORT for page streams; port 0 takes a free one")->required();
  app.add_option("--certs", s.certs, "directory with ca.crt, node.crt, node.key")->required();
  app.add_option("--user", s.user, "user to run as")->capture_default_str();
  app.add_option("--threads", s.threads, "threads for streams")->check(CLI::Range(1u, 64u))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  log::init("godwit-pageserver");
  try {
    check(::fcntl(s.control_fd, F_SETFD, FD_CLOEXEC), "use control descriptor {}", s.control_fd);
    serve(s);
  } catch (const std::exception& e) {
    log::error("pageserver.cannot_start", {{"message", e.what()}});
    return 1;
  }
}
