#include "common/net/pacing.h"

#include "common/base/fd.h"

#include <array>
#include <cstdint>
#include <string>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace godwit::net {
namespace {

constexpr std::uint32_t near_us = 500;

std::string congestion_control(int socket) {
  std::array<char, 16> name{};  // TCP_CA_NAME_MAX
  socklen_t length = name.size();
  return ::getsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, name.data(), &length) < 0 ? "" : name.data();
}

void set_congestion_control(int socket, const std::string& name) {
  ::setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size()));
}

bool paces(const std::string& name) { return name.starts_with("bbr"); }

}  // namespace

// Reno is in every kernel, and everybody may use it.
void begin_unpaced(int socket) {
  if (paces(congestion_control(socket))) set_congestion_control(socket, "reno");
}

void pace_if_far(int socket) {
  if (is_near(socket)) return;
  const UniqueFd fresh(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fresh) return;
  if (const std::string chosen = congestion_control(fresh.get()); paces(chosen)) set_congestion_control(socket, chosen);
}

bool is_near(int socket) {
  tcp_info info{};
  socklen_t length = sizeof info;
  return ::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 && info.tcpi_rtt > 0 &&
         info.tcpi_rtt <= near_us;
}

}  // namespace godwit::net
