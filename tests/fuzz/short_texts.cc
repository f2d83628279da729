// Short texts: addresses, roles in certificates, amounts of bytes, sizes of headers, users, names of copies. The first
// byte says which.
#include "common/base/units.h"
#include "common/net/address.h"
#include "common/net/identity.h"
#include "common/pagewire/criu.h"
#include "coordinator/cli/user.h"
#include "coordinator/migration/copy_id.h"
#include "tests/fuzz/fuzz.h"

#include <string>

namespace godwit {

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const std::string_view text = input.substr(1);
  switch (input[0]) {
    case 'a': {
      const net::Address address = net::parse_address(text);
      const net::Address again = net::parse_address(net::to_string(address));
      require(again.host == address.host && again.port == address.port);
      break;
    }
    case 'i':
      if (const auto identity = net::parse_identity(text))
        require(net::parse_identity("spiffe://godwit/" + net::to_string(*identity)) == identity);
      break;
    case 'b': parse_bytes(std::string(text)); break;
    case 'u': {
      const cli::User user = cli::parse_user(std::string(text));
      require(cli::parse_user(std::to_string(user.uid) + ":" + std::to_string(user.gid)) == user);
      break;
    }
    case 'e': {
      const std::uint64_t epoch = coordinator::epoch_of(std::string(text));
      require(coordinator::epoch_of("m." + std::to_string(epoch)) == epoch);
      break;
    }
    case 'h': pagewire::criu::parse_header_size(text); break;
    default: break;
  }
}

}  // namespace godwit
