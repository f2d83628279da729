// HOST:PORT, as people write it. IPv6 addresses stand in brackets.
#pragma once

#include "common/net/async.h"

#include <boost/asio/ip/tcp.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace godwit::net {

struct Address {
  std::string host;
  std::string port;
};

Address parse_address(std::string_view text);  // Errc::invalid_argument
std::string to_string(const Address& address);
std::string to_string(const asio::ip::tcp::endpoint& endpoint);

// Numbers are understood at once; names are looked up, which a cancellation does not interrupt.
awaitable<std::vector<asio::ip::tcp::endpoint>> resolve(Address address);

}  // namespace godwit::net
