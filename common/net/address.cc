#include "common/net/address.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>

namespace godwit::net {

using tcp = asio::ip::tcp;

Address parse_address(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || colon + 1 == text.size())
    fail(Errc::invalid_argument, "'{}' is no address: expected HOST:PORT", text);
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  else if (host.find(':') != std::string_view::npos)
    fail(Errc::invalid_argument, "'{}' is no address: write IPv6 as [ADDRESS]:PORT", text);
  if (host.find_first_of("[]") != std::string_view::npos)
    fail(Errc::invalid_argument, "'{}' is no address: a bracket in the host", text);
  if (port.size() > 5 || !std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; }) ||
      std::stoi(std::string(port)) > 65535)
    fail(Errc::invalid_argument, "'{}' is no address: bad port", text);
  return {std::string(host), std::string(port)};
}

std::string to_string(const Address& a) {
  return a.host.find(':') == std::string::npos ? a.host + ":" + a.port : "[" + a.host + "]:" + a.port;
}

std::string to_string(const tcp::endpoint& end) {
  return to_string(Address{end.address().to_string(), std::to_string(end.port())});
}

awaitable<std::vector<tcp::endpoint>> resolve(Address address) {
  boost::system::error_code not_a_number;
  const asio::ip::address number = asio::ip::make_address(address.host, not_a_number);
  if (!not_a_number) {
    std::vector<tcp::endpoint> one{tcp::endpoint(number, static_cast<std::uint16_t>(std::stoi(address.port)))};
    co_return one;
  }
  tcp::resolver resolver(co_await asio::this_coro::executor);
  const auto [ec, found] =
      co_await resolver.async_resolve(address.host, address.port, asio::as_tuple(asio::use_awaitable));
  if (ec) throw to_error(ec, "look up " + address.host);
  std::vector<tcp::endpoint> ends;
  for (const auto& entry : found) ends.push_back(entry.endpoint());
  co_return ends;
}

}  // namespace godwit::net
