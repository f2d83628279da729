#include "agent/engine/resources/multicast.h"

#include <charconv>
#include <cstring>
#include <sstream>

#include <arpa/inet.h>
#include <netinet/in.h>

namespace godwit::engine::resources {

// "2<tab>eth0 : ..." names an interface; "<tab><tab>FB0000E0 ..." below it a group, as the word lies in memory.
std::vector<MulticastGroup> parse_igmp(const std::string& table) {
  std::vector<MulticastGroup> groups;
  std::uint32_t interface = 0;
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    if (!line.starts_with('\t')) {
      words >> interface;
      continue;
    }
    MulticastGroup group{.interface = interface, .text = {}};
    words >> group.text;
    auto& in = reinterpret_cast<sockaddr_in&>(group.address);
    in.sin_family = AF_INET;
    std::from_chars(group.text.data(), group.text.data() + group.text.size(), in.sin_addr.s_addr, 16);
    group.text.resize(INET_ADDRSTRLEN);
    group.text = ::inet_ntop(AF_INET, &in.sin_addr, group.text.data(), INET_ADDRSTRLEN);
    groups.push_back(std::move(group));
  }
  return groups;
}

// "2 eth0 ff0200000000000000000000000000fb 1 ..."
std::vector<MulticastGroup> parse_igmp6(const std::string& table) {
  std::vector<MulticastGroup> groups;
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    MulticastGroup group;
    std::string device;
    words >> group.interface >> device >> group.text;
    if (group.text.size() != 32) continue;
    auto& in = reinterpret_cast<sockaddr_in6&>(group.address);
    in.sin6_family = AF_INET6;
    for (std::size_t i = 0; i < 16; ++i) {
      std::from_chars(group.text.data() + 2 * i, group.text.data() + 2 * i + 2, in.sin6_addr.s6_addr[i], 16);
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

namespace {

bool has_joined(int fd, const MulticastGroup& group) {
  group_filter filter{};
  filter.gf_interface = group.interface;
  filter.gf_group = group.address;
  socklen_t size = GROUP_FILTER_SIZE(0);
  const int level = group.address.ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
  return ::getsockopt(fd, level, MCAST_MSFILTER, &filter, &size) == 0;  // EADDRNOTAVAIL: not in this group
}

}  // namespace

std::optional<std::string> joined_group(const FdView& view) {
  const bool v4 = view.socket->domain == AF_INET;
  const std::string table = proc::Reader(view.pid).text(v4 ? "net/igmp" : "net/igmp6");
  for (const MulticastGroup& group : v4 ? parse_igmp(table) : parse_igmp6(table)) {
    if (has_joined(view.fd, group)) return group.text;
  }
  return std::nullopt;
}

}  // namespace godwit::engine::resources
