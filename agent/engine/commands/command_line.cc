#include "agent/engine/commands/command_line.h"

#include "common/base/log.h"
#include "common/commandline/verbosity.h"

namespace godwit::engine::commands {
namespace {
constexpr std::string_view to_standard_output = "-";
}

void log_failure(const Error& e, const UniqueFd& before) {
  log::error("engine.failed", {{"code", name(e.errc())}, {"message", e.message()}, {"hint", e.hint()}});
  if (!before || ::dup2(before.get(), 2) < 0) return;
  log::error("engine.failed", {{"code", name(e.errc())}, {"message", e.message()}, {"hint", e.hint()}});
}

void set_verbosity(const Options& o) { log::init("godwit", level_of(o.verbosity)); }

UniqueFd begin_log(const Options& o) {
  set_verbosity(o);
  if (o.log_file.empty()) return {};
  if (o.log_file == to_standard_output) {
    UniqueFd before(check(::fcntl(2, F_DUPFD_CLOEXEC, 3), "keep standard error"));
    check(::dup2(1, 2), "log to standard output");
    return before;
  }
  if (o.work.empty() && (o.command == "dump" || o.command == "pre-dump")) make_images_directory(o.images);
  const UniqueFd work = open_file(o.work.empty() ? o.images : o.work, O_RDONLY | O_DIRECTORY);
  const UniqueFd file = open_at(work.get(), o.log_file, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
  UniqueFd before(check(::fcntl(2, F_DUPFD_CLOEXEC, 3), "keep standard error"));
  check(::dup2(file.get(), 2), "log into {}", o.log_file);
  return before;
}

void check_status(const Options& o) {
  if (o.status_fd < 0) return;
  const int flags = ::fcntl(o.status_fd, F_GETFL);
  if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
    fail(Errc::invalid_argument, "--status-fd {}: it is not open for writing", o.status_fd);
}

void say_ready(const Options& o) {
  if (o.status_fd < 0) return;
  const Doing doing("--status-fd {}", o.status_fd);
  UniqueFd fd(o.status_fd);
  const char zero = 0;
  write_all(fd.get(), std::string_view(&zero, 1));
}

void afterwards(std::string_view done, const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& e) {
    log::warn("command.afterwards", {{"error", e.message()}, {"hint", e.hint()}, {"consequence", done}});
  }
}

UniqueFd open_beside(const Places& places, const std::string& path) {
  return open_at(places.work.get(), path, O_WRONLY | O_CREAT, 0644);
}

void write_anew(const UniqueFd& file, std::string_view text) {
  check(::ftruncate(file.get(), 0), "empty a file");
  write_all(file.get(), text);
}

void write_beside(const Places& places, const std::string& path, std::string_view text) {
  write_anew(open_beside(places, path), text);
}

}  // namespace godwit::engine::commands
