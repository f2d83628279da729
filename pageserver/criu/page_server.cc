#include "pageserver/criu/page_server.h"

#include "common/base/log.h"
#include "common/commandline/actions.h"
#include "common/image/page_reader.h"
#include "pageserver/criu/options.h"
#include "pageserver/criu/session.h"
#include "pageserver/criu/tls_stream.h"

#include <memory>
#include <optional>

#include <sys/prctl.h>
#include <sys/stat.h>

namespace godwit::pageserver::criu {
namespace {

constexpr std::chrono::seconds handshake_limit{10};
// A client may come whenever it likes: who started the server ends it.
constexpr std::chrono::hours forever{24 * 365};

std::string in_work_dir(const PageServerOptions& o, const std::string& name) {
  return name.starts_with('/') ? name : (o.work.empty() ? o.images : o.work) + "/" + name;
}

void log_to(const std::string& path) {
  const UniqueFd file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
  check(::dup2(file.get(), STDERR_FILENO), "log into {}", path);
}

// To somebody who may not read it any more.
void say_zero(int fd) {
  try {
    write_all(fd, std::string_view("\0", 1));
  } catch (const Error& e) {
    log::warn("page-server.status", {{"message", e.message()}});
  }
}

// The server goes on by itself, and the caller's command waits for what begins it: its status says whether the server
// can be reached.
class Daemon {
 public:
  Daemon() {
    int ends[2];
    check(::pipe2(ends, O_CLOEXEC), "make a pipe");
    UniqueFd ready(ends[0]);
    begun_.reset(ends[1]);
    const pid_t child = check(::fork(), "fork");
    if (child == 0) {
      check(::setsid(), "start a session");
      return;
    }
    begun_.reset();
    char byte = 1;
    ::_exit(::read(ready.get(), &byte, 1) == 1 ? 0 : 1);
  }

  void has_begun(bool keep_errors) {
    const UniqueFd null = open_file("/dev/null", O_RDWR);
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
      if (fd != STDERR_FILENO || !keep_errors) check(::dup2(null.get(), fd), "let go of descriptor {}", fd);
    say_zero(begun_.get());
    begun_.reset();
  }

 private:
  UniqueFd begun_;
};

void say_ready(int status_fd) {
  if (status_fd < 0) return;
  const UniqueFd fd(status_fd);
  say_zero(fd.get());
}

// Somebody who cannot show a certificate does not use up the session.
std::unique_ptr<Stream> accept_client(int listener, const std::optional<TlsSettings>& tls) {
  for (;;) {
    UniqueFd connection = net::accept_one(listener, net::in(forever));
    net::fit_buffers(connection.get());
    const std::string peer = net::peer_address(connection.get());
    log::info("page-server.connected", {{"peer", peer}, {"tls", tls.has_value()}});
    if (!tls) return std::make_unique<PlainStream>(std::move(connection));
    try {
      return std::make_unique<TlsStream>(std::move(connection), *tls, TlsSide::server, net::in(handshake_limit));
    } catch (const Error& e) {
      log::warn("page-server.turned_away", {{"peer", peer}, {"message", e.message()}, {"hint", e.hint()}});
    }
  }
}

void serve(Stream& stream, int directory, const PageServerOptions& o) {
  ImageWriter images(directory, {.auto_dedup = o.auto_dedup});
  Session session(stream, images);
  const Clock::time_point begun = Clock::now();
  try {
    session.run();
  } catch (...) {
    if (const std::set<std::string> robbed = images.freed_in(); !robbed.empty())
      log::error("page-server.parents_unusable",
                 {{"directories", fmt::format("{}", fmt::join(robbed, ", "))},
                  {"reason", "the session did not finish, and --auto-dedup had begun to free there what it superseded"},
                  {"consequence", "nothing can be restored from them: dump everything again"}});
    throw;
  }
  const Written& w = images.written();
  const std::chrono::duration<double> took = Clock::now() - begun;
  log::info("page-server.done", {{"objects", w.objects},
                                 {"pages", w.present_pages},
                                 {"parent_pages", w.parent_pages},
                                 {"freed_bytes", w.freed_bytes},
                                 {"seconds", took.count()}});
}

// `terminal`: where errors are said before there is a log file, for as long as somebody waits there.
void run(const PageServerOptions& o, UniqueFd& terminal) {
  const UniqueFd directory = open_file(o.images, O_RDONLY | O_DIRECTORY);
  if (!o.previous.empty()) image::set_parent(directory.get(), o.previous);
  std::optional<TlsSettings> tls;
  if (o.tls) tls.emplace(o.files, o.check_name ? o.address : "");
  if (!tls)
    log::warn("page-server.plain", {{"notice",
                                     "without --tls anybody who reaches this port can write these images, and "
                                     "runs of pages carry no checksums"}});
  if (o.log_file == "-")
    check(::dup2(STDOUT_FILENO, STDERR_FILENO), "log to standard output");
  else if (!o.log_file.empty())
    log_to(in_work_dir(o, o.log_file));
  UniqueFd listener;
  if (o.socket < 0) {
    listener = net::listen_on(o.address, static_cast<std::uint16_t>(o.port), 1);
    log::info("page-server.listening", {{"address", net::local_address(listener.get())}});
  }
  std::optional<Daemon> daemon;
  if (o.daemon) daemon.emplace();
  if (!o.pidfile.empty()) write_file(in_work_dir(o, o.pidfile), fmt::format("{}\n", ::getpid()), 0644);
  run_scripts(o.action_scripts, read_link(fmt::format("/proc/self/fd/{}", directory.get())))("status-ready", 0);
  say_ready(o.status_fd);
  if (daemon) {
    daemon->has_begun(!o.log_file.empty());
    terminal.reset();
  }
  check(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs");

  std::unique_ptr<Stream> stream;
  if (o.socket >= 0) {
    net::adopt_stream(o.socket);
    stream = std::make_unique<PlainStream>(UniqueFd(o.socket));
  } else {
    stream = accept_client(listener.get(), tls);
  }
  listener.reset();
  serve(*stream, directory.get(), o);
}

void say(const UniqueFd& terminal, const std::string& what) {
  if (terminal) ::dprintf(terminal.get(), "godwit page-server: %s\n", what.c_str());
}

}  // namespace

int page_server_main(int argc, char** argv) {
  int exit_code = 0;
  const auto options = parse_page_server(argc, argv, exit_code);
  if (!options) return exit_code;
  log::init("godwit page-server", level_of(options->verbosity));
  UniqueFd terminal;
  try {
    if (!options->log_file.empty()) terminal.reset(check(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), "keep stderr"));
    run(*options, terminal);
    return 0;
  } catch (const Error& e) {
    log::error("page-server.failed", {{"code", name(e.errc())}, {"message", e.message()}, {"hint", e.hint()}});
    say(terminal, e.hint().empty() ? e.message() : e.message() + "\nhint: " + e.hint());
  } catch (const std::exception& e) {
    log::error("page-server.failed", {{"code", "internal"}, {"message", e.what()}});
    say(terminal, e.what());
  }
  return 1;
}

}  // namespace godwit::pageserver::criu
