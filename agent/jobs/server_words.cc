#include "agent/jobs/server_words.h"

#include "common/net/address.h"
#include "common/pagewire/wire.h"

namespace godwit::jobs {

pageserver::FromServer parse_server_words(const std::string& bytes) {
  using pageserver::FromServer;
  FromServer message;
  if (!message.ParseFromString(bytes) || message.body_case() == FromServer::BODY_NOT_SET)
    fail(Errc::protocol, "the page server said {} bytes that are no message", bytes.size());
  if (message.has_listening()) try {
      net::parse_address(message.listening().address());
    } catch (const Error& e) {
      fail(Errc::protocol, "the page server listens nowhere: {}", e.message());
    }
  // Whatever counts by streams would grow by every number.
  if (message.has_stored() && message.stored().stream() >= pagewire::max_streams)
    fail(Errc::protocol, "the page server stored stream {}", message.stored().stream());
  return message;
}

}  // namespace godwit::jobs
