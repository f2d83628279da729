// The command lines of the page server and of the relay.
#pragma once

#include "common/commandline/verbosity.h"
#include "common/pagewire/criu.h"
#include "pageserver/criu/tls_stream.h"

#include <optional>
#include <string>
#include <vector>

namespace godwit::pageserver::criu {

struct PageServerOptions {
  std::string images = ".";
  std::string previous;  // relative to `images`; empty: no parent
  std::string address;   // empty: any
  unsigned port = 0;     // 0: a free one
  bool auto_dedup = false;
  bool daemon = false;
  int status_fd = -1;             // gets one zero byte when clients can connect
  int socket = -1;                // a connected socket instead of address and port
  std::string work;               // empty: the images directory
  std::string pidfile, log_file;  // relative to `work`; a log "-" is standard output
  std::vector<std::string> action_scripts;
  int verbosity = usual_verbosity;
  bool tls = false;
  TlsFiles files;
  bool check_name = true;
};

struct RelayOptions {
  int socket = -1;  // of the engine
  std::string address;
  unsigned port = 0;
  pagewire::criu::HeaderSize header = pagewire::criu::HeaderSize::since_4_2;
  TlsFiles files;
  bool check_name = true;
};

// Nothing when there is nothing to do (--help) or the line is bad; `exit_code` says which, and it has been explained.
std::optional<PageServerOptions> parse_page_server(int argc, char** argv, int& exit_code);
std::optional<RelayOptions> parse_relay(int argc, char** argv, int& exit_code);

}  // namespace godwit::pageserver::criu
