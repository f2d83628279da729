// The kernel's answers about sockets. The first byte says to which question.
#include "agent/engine/resources/inet_diag.h"
#include "agent/engine/resources/tcp_remnants.h"
#include "agent/engine/resources/unix_diag.h"
#include "tests/fuzz/fuzz.h"

#include <span>

namespace godwit {

using namespace engine::resources;

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const auto answer = std::as_bytes(std::span(input.substr(1)));
  if (input[0] == 'u') {
    const auto info = parse_unix_socket(answer, "a socket");
    require(!info || info->name.size() <= answer.size());
  } else if (input[0] == 'm') {
    bool more = true;
    find_md5_keys(answer, 7, more);
  } else {
    std::vector<inet_diag_sockid> found;
    collect_remnants(answer, 80, found);
    require(found.size() <= answer.size() / sizeof(inet_diag_msg));
  }
}

}  // namespace godwit
