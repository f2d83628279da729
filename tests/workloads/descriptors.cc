#include "tests/workloads/descriptors.h"

#include "tests/workloads/workload.h"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <set>
#include <sstream>
#include <sys/socket.h>

namespace godwit::workloads {
namespace {

struct Level {
  int level;
  int last;  // higher names belong to somebody else
  std::set<int> left_out;
};

// By number where a header of this C library has no name for it.
const Level levels[] = {
    {SOL_SOCKET,
     90,
     {SO_ERROR, SO_PEERCRED, SO_PEERSEC, SO_INCOMING_CPU, 55 /* SO_MEMINFO */, 56 /* SO_INCOMING_NAPI_ID */,
      57 /* SO_COOKIE */, 59 /* SO_PEERGROUPS */, 71 /* SO_NETNS_COOKIE */, 77 /* SO_PEERPIDFD */}},
    {IPPROTO_IP, 55, {IP_OPTIONS, IP_PKTOPTIONS, IP_MTU, IP_MSFILTER, MCAST_MSFILTER}},
    {IPPROTO_IPV6, 80, {IPV6_2292PKTOPTIONS, IPV6_MTU, IPV6_PATHMTU, MCAST_MSFILTER, 64, 65, 68, 69 /* IP6T_SO_... */}},
    {IPPROTO_TCP,
     50,
     {TCP_INFO, TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_REPAIR_OPTIONS, TCP_TIMESTAMP, TCP_CC_INFO,
      TCP_SAVED_SYN, TCP_REPAIR_WINDOW, TCP_FASTOPEN_KEY, TCP_ZEROCOPY_RECEIVE}},
    {IPPROTO_UDP, 110, {}}};

std::string digits(const unsigned char* bytes, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", bytes[i]);
    text += two;
  }
  return text;
}

}  // namespace

std::string owner_of(int fd) {
  f_owner_ex owner{};
  unsigned uids[2] = {};
  fcntl(fd, F_GETOWN_EX, &owner);
  fcntl(fd, 17 /* F_GETOWNER_UIDS */, uids);
  char text[100];
  std::snprintf(text, sizeof text, "type %d pid %d as %u, %u signal %d", owner.type, owner.pid, uids[0], uids[1],
                fcntl(fd, F_GETSIG));
  return text;
}

std::string fdinfo(int fd, std::initializer_list<const char*> beginnings) {
  std::set<std::string> lines;
  std::istringstream about(read_file("/proc/self/fdinfo/" + std::to_string(fd)));
  for (std::string line; std::getline(about, line);) {
    if (std::ranges::none_of(beginnings, [&](const char* beginning) { return line.starts_with(beginning); })) continue;
    std::istringstream words(line);
    std::string kept;
    for (std::string word; words >> word;)
      if (!word.starts_with("ino:") && !word.starts_with("sdev:") && !word.starts_with("fhandle")) kept += word + " ";
    lines.insert(kept);
  }
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

std::map<std::string, std::string> socket_options(int fd) {
  std::map<std::string, std::string> options;
  for (const Level& level : levels) {
    for (int name = 1; name <= level.last; ++name) {
      unsigned char value[128] = {};
      socklen_t size = sizeof value;
      if (level.left_out.contains(name) || getsockopt(fd, level.level, name, value, &size) != 0) continue;
      options[std::to_string(level.level) + "/" + std::to_string(name)] = digits(value, size);
    }
  }
  return options;
}

void compare_options(Workload& w, const char* socket, const std::map<std::string, std::string>& before, int fd) {
  std::map<std::string, std::string> now = socket_options(fd);
  for (const auto& [option, value] : before) {
    w.check(now[option] == value, "%s: option %s was %s and is %s", socket, option.c_str(), value.c_str(),
            now[option].c_str());
  }
  w.check(now.size() == before.size(), "%s has %zu options, had %zu", socket, now.size(), before.size());
}

}  // namespace godwit::workloads
