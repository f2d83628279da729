#include "coordinator/cli/page_link.h"

#include "common/base/waiting.h"
#include "common/net/plain_socket.h"
#include "coordinator/cli/beside.h"

#include <string>
#include <vector>

#include <sys/socket.h>

namespace godwit::cli {

using engine::commands::PageServerOptions;

namespace {

constexpr std::chrono::seconds patience{10};

void inherit(int fd, bool yes) { check(::fcntl(fd, F_SETFD, yes ? 0 : FD_CLOEXEC), "pass on descriptor {}", fd); }

std::vector<std::string> relay_words(const PageServerOptions& server, int socket) {
  std::vector<std::string> words{"page-relay",
                                 "--socket",
                                 std::to_string(socket),
                                 "--address",
                                 server.address,
                                 "--port",
                                 std::to_string(server.port),
                                 "--page-server-header",
                                 std::to_string(server.header)};
  for (const auto& [option, file] : {std::pair("--tls-cacert", &server.ca), std::pair("--tls-cacrl", &server.revoked),
                                     std::pair("--tls-cert", &server.certificate), std::pair("--tls-key", &server.key)})
    if (!file->empty()) words.insert(words.end(), {option, *file});
  if (server.no_name_check) words.emplace_back("--tls-no-cn-verify");
  return words;
}

// The relay is nobody's child: the engine that this program becomes has none but those of its work.
void start_relay(const PageServerOptions& server, const UniqueFd& socket) {
  const pid_t child = check(::fork(), "fork");
  if (child == 0) {
    if (::fork() != 0) ::_exit(0);
    try {
      inherit(socket.get(), true);
      exec_beside("godwit-pageserver", relay_words(server, socket.get()));
    } catch (const std::exception& e) {
      std::fprintf(stderr, "godwit: %s\n", e.what());
    }
    ::_exit(1);
  }
  wait_for_child(child);
}

}  // namespace

UniqueFd open_page_link(const PageServerOptions& server) {
  UniqueFd ours;
  if (server.tls) {
    auto [engine, relay] = make_socketpair(AF_UNIX, SOCK_STREAM);
    start_relay(server, relay);
    ours = std::move(engine);
  } else {
    ours = net::dial(server.address, static_cast<std::uint16_t>(server.port), patience);
    net::fit_buffers(ours.get());
  }
  inherit(ours.get(), true);
  return ours;
}

}  // namespace godwit::cli
