#include "coordinator/cli/page_link.h"

#include "common/net/plain_socket.h"
#include "coordinator/cli/beside.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include <sys/socket.h>
#include <sys/wait.h>

namespace godwit::cli {
namespace {

constexpr std::chrono::seconds patience{10};

constexpr std::array for_relay{"--page-server-header", "--tls-cacert", "--tls-cacrl", "--tls-cert", "--tls-key"};

std::uint16_t number_of(const std::string& port) {
  std::uint16_t number = 0;
  const auto [end, problem] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (problem != std::errc() || end != port.data() + port.size() || number == 0)
    fail(Errc::invalid_argument, "--page-server needs a --port, and '{}' is none", port);
  return number;
}

void inherit(int fd, bool yes) { check(::fcntl(fd, F_SETFD, yes ? 0 : FD_CLOEXEC), "pass on descriptor {}", fd); }

// The relay is nobody's child: the engine that this program becomes has none but those of its work.
void start_relay(const PageLink& link, const UniqueFd& socket) {
  const pid_t child = check(::fork(), "fork");
  if (child == 0) {
    if (::fork() != 0) ::_exit(0);
    try {
      inherit(socket.get(), true);
      std::vector<std::string> words{"page-relay", "--socket", std::to_string(socket.get()), "--address", link.address,
                                     "--port",     link.port};
      words.insert(words.end(), link.for_relay.begin(), link.for_relay.end());
      exec_beside("godwit-pageserver", words);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "godwit: %s\n", e.what());
    }
    ::_exit(1);
  }
  check(::waitpid(child, nullptr, 0), "wait for a child");
}

}  // namespace

std::optional<PageLink> page_link_of(const std::vector<std::string>& words) {
  PageLink link;
  bool wanted = false;
  for (std::size_t i = 0; i < words.size(); i++) {
    const std::size_t equals = words[i].find('=');
    const std::string name = words[i].substr(0, equals);
    const auto value = [&]() -> std::string {
      if (equals != std::string::npos) return words[i].substr(equals + 1);
      return i + 1 < words.size() ? words[++i] : "";
    };
    if (name == "--page-server") {
      wanted = true;
    } else if (name == "--address") {
      link.address = value();
    } else if (name == "--port") {
      link.port = value();
    } else if (name == "--tls") {
      link.tls = true;
    } else if (name == "--tls-no-cn-verify") {
      link.for_relay.push_back(name);
    } else if (std::ranges::find(for_relay, name) != for_relay.end()) {
      link.for_relay.push_back(name);
      link.for_relay.push_back(value());
    }
  }
  return wanted ? std::optional(link) : std::nullopt;
}

UniqueFd open_page_link(const PageLink& link) {
  const std::uint16_t port = number_of(link.port);
  UniqueFd ours;
  if (link.tls) {
    auto [engine, relay] = make_socketpair(AF_UNIX, SOCK_STREAM);
    start_relay(link, relay);
    ours = std::move(engine);
  } else {
    ours = net::dial(link.address, port, patience);
    net::fit_buffers(ours.get());
  }
  inherit(ours.get(), true);
  return ours;
}

}  // namespace godwit::cli
