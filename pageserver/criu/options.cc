#include "pageserver/criu/options.h"

#include "common/commandline/words.h"

#include <CLI/CLI.hpp>

#include <limits>

namespace godwit::pageserver::criu {
namespace {

constexpr int bad_command_line = 2;
constexpr unsigned last_port = std::numeric_limits<std::uint16_t>::max();
constexpr int last_fd = 1 << 20;

void add_tls(CLI::App& app, TlsFiles& files, bool& no_name) {
  app.add_option("--tls-cacert", files.ca, "certificate of the authority")->capture_default_str();
  app.add_option("--tls-cacrl", files.revoked, "list of revoked certificates");
  app.add_option("--tls-cert", files.certificate, "certificate of this side")->capture_default_str();
  app.add_option("--tls-key", files.key, "its key")->capture_default_str();
  app.add_flag("--tls-no-cn-verify", no_name, "do not compare the name in the peer's certificate with --address");
}

bool parsed(CLI::App& app, int argc, char** argv, int& exit_code) {
  app.allow_extras();
  try {
    parse_words(app, {argv + 1, argv + argc});
    if (const auto extra = app.remaining(); !extra.empty()) refuse_word("page-server", extra.front());
    return true;
  } catch (const CLI::ParseError& e) {
    exit_code = app.exit(e) == 0 ? 0 : bad_command_line;
  } catch (const Error& e) {
    fmt::print(stderr, "{}{}{}\n", e.message(), e.hint().empty() ? "" : ": ", e.hint());
    exit_code = bad_command_line;
  }
  return false;
}

}  // namespace

std::optional<PageServerOptions> parse_page_server(int argc, char** argv, int& exit_code) {
  PageServerOptions o;
  bool no_name = false;
  CLI::App app("Receives the pages of one dump, by CRIU's protocol, and stores them as images.", "godwit page-server");
  app.add_option("-D,--images-dir", o.images, "where the images go")->capture_default_str();
  app.add_option("--prev-images-dir", o.previous, "images of the dump before, relative to --images-dir");
  app.add_option("--address", o.address, "address to listen at (any)");
  app.add_option("--port", o.port, "port to listen at; 0 takes a free one")
      ->capture_default_str()
      ->check(CLI::Range(0u, last_port));
  app.add_flag("--auto-dedup", o.auto_dedup, "free what is superseded in the images of the dumps before");
  app.add_flag("-d,--daemon", o.daemon, "go on in the background once clients can connect");
  app.add_option("--status-fd", o.status_fd, "descriptor that gets a zero byte once clients can connect")
      ->check(CLI::Range(0, last_fd));
  app.add_option("--action-script", o.action_scripts, "program that is run once clients can connect; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--ps-socket", o.socket, "descriptor of a connected socket, instead of address and port")
      ->check(CLI::Range(0, last_fd));
  app.add_option("-W,--work-dir", o.work, "where --pidfile and --log-file are (the images directory)");
  app.add_option("--pidfile", o.pidfile, "file for the PID of the server");
  app.add_option("-o,--log-file", o.log_file, "file for the log (standard error); -: standard output");
  add_verbosity(app, o.verbosity);
  app.add_flag("--tls", o.tls, "TLS, and clients without a certificate are turned away");
  add_tls(app, o.files, no_name);
  app.footer(
      "Exit codes: 0 the client closed its session and everything is stored, 1 anything else, 2 bad command line.");
  if (!parsed(app, argc, argv, exit_code)) return std::nullopt;
  if (o.tls && o.socket >= 0) {
    std::fputs("--tls does not go with --ps-socket: whoever passes the socket speaks TLS on it\n", stderr);
    exit_code = bad_command_line;
    return std::nullopt;
  }
  o.check_name = !no_name;
  return o;
}

std::optional<RelayOptions> parse_relay(int argc, char** argv, int& exit_code) {
  RelayOptions o;
  unsigned header = bytes_in(o.header);
  bool no_name = false;
  CLI::App app("Carries a dump's page stream from a socket to a page server over TLS.", "godwit-pageserver page-relay");
  app.add_option("--socket", o.socket, "connected socket of the engine")->required()->check(CLI::Range(0, last_fd));
  app.add_option("--address", o.address, "address of the page server")->required();
  app.add_option("--port", o.port, "its port")->required()->check(CLI::Range(1u, last_port));
  app.add_option("--page-server-header", header, "bytes of a command")->check(CLI::IsMember({24u, 32u}));
  add_tls(app, o.files, no_name);
  if (!parsed(app, argc, argv, exit_code)) return std::nullopt;
  o.header = pagewire::criu::HeaderSize{static_cast<std::uint8_t>(header)};
  o.check_name = !no_name;
  return o;
}

}  // namespace godwit::pageserver::criu
