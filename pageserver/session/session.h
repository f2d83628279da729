// One migration's session: its token, its spool directory, its streams. Belongs to the server's main thread.
#pragma once

#include "pageserver/session/stream.h"
#include "pageserver/session/workers.h"

#include "common/base/fd.h"

#include <array>
#include <functional>
#include <map>
#include <set>
#include <string>

namespace godwit::pageserver {

struct SessionOptions {
  std::string migration;
  std::string peer;  // the node that may connect
  std::array<std::uint8_t, 32> token_sha256{};
  std::uint64_t spool_limit = 0;
  std::uint32_t max_streams = 0;
};

struct SessionEvents {
  std::function<void(std::uint32_t stream, std::uint64_t upto)> stored;
  std::function<void(std::exception_ptr)> ended;  // at most once: the client has gone; null: it said goodbye
  std::function<void(Stream::Totals)> closed;     // after close(), when no stream is left
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  // Errc::invalid_argument names what is wrong with the options.
  Session(net::Executor main, Workers& workers, SessionOptions options, UniqueFd directory, SessionEvents events);

  // Whether this client may open this stream now.
  pagewire::Reason admit(const pagewire::ParsedHello& hello, const net::Identity& peer);
  // Takes the stream that has been admitted. Errors of the file system: it is not taken then.
  std::unique_ptr<Appender> make_file(const pagewire::ParsedHello& hello);
  void adopt(std::uint32_t stream, std::unique_ptr<Appender> file, net::Connection connection);

  void release(std::uint32_t stream, std::uint64_t upto);
  void close();

 private:
  std::uint64_t window_of_a_stream() const;
  void end_stream(std::uint32_t number, Stream::Totals totals, std::exception_ptr problem);
  void stop_streams();

  net::Executor main_;
  Workers& workers_;
  const SessionOptions options_;
  UniqueFd directory_;
  SessionEvents events_;
  std::set<std::uint32_t> taken_;
  struct Running {
    net::Executor executor;
    std::shared_ptr<Stream> stream;
  };
  std::map<std::uint32_t, Running> running_;
  std::uint32_t announced_ = 0;  // streams that the client means to open
  std::uint32_t goodbyes_ = 0;
  Stream::Totals totals_;
  bool ended_ = false, closing_ = false;
};

}  // namespace godwit::pageserver
