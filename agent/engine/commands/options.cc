#include "agent/engine/commands/options.h"

#include "common/base/error.h"
#include "common/commandline/words.h"

#include <CLI/CLI.hpp>

#include <algorithm>

namespace godwit::engine::commands {
namespace {

constexpr const char *program = "godwit", *about = "Dumps and restores processes, without a daemon.";
constexpr int highest_pid = 1 << 22;
constexpr int highest_fd = 1 << 20;

void add_common(CLI::App& app, Options& o) {
  app.add_option("-W,--work-dir", o.work, "where logs, pidfiles and statistics go (the images directory)");
  app.add_option("-o,--log-file", o.log_file, "log into this file of the work directory; -: to standard output");
  add_verbosity(app, o.verbosity);
}

void add_images(CLI::App& app, Options& o) {
  app.add_option("-D,--images-dir", o.images, "the images directory")->capture_default_str();
}

void add_tree(CLI::App& app, Options& o) {
  app.add_option("-t,--tree", o.tree, "PID of the process")->required()->check(CLI::Range(1, highest_pid));
}

void add_events(CLI::App& app, Options& o) {
  app.add_option("--action-script", o.action_scripts, "program that is run at each step; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--status-fd", o.status_fd, "descriptor that gets a zero byte when all is done")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--pidfile", o.pidfile, "file for the PID of the process");
}

void add_carried(CLI::App& app, Options& o) {
  app.add_flag("--tcp-close", o.tcp_close, "let established TCP connections be reset");
  app.add_flag("-j,--shell-job", o.shell_job, "exchange a terminal from outside for that of the restore");
  app.add_flag("-l,--file-locks", o.file_locks, "carry locks and leases of files");
  app.add_flag("--link-remap", o.link_remap, "deleted files that have other names (not carried yet)");
  app.add_flag("--tcp-established", o.tcp_established, "established TCP connections (not carried yet)");
  app.add_option_function<std::string>(
         "-x,--ext-unix-sk", [&o](const std::string&) { o.unix_sockets = true; },
         "unix sockets connected to the outside, or the one with this inode (not carried yet)")
      ->expected(0, 1);
}

void add_dump(CLI::App& app, Options& o) {
  add_common(app, o);
  add_images(app, o);
  add_tree(app, o);
  add_events(app, o);
  add_carried(app, o);
  app.add_flag("-R,--leave-running", o.leave_running, "let the process run on, as a pre-dump always does");
  app.add_option("--prev-images-dir", o.previous, "the dump before this one, relative to the images directory");
  app.add_flag("--track-mem", o.track_memory, "keep track of what changes, for the next dump");
  app.add_flag("--auto-dedup", o.auto_dedup, "free what this dump supersedes in the ones before");
  app.add_option("--timeout", o.timeout_s, "seconds for everything to stop; 0: a day")
      ->capture_default_str()
      ->check(CLI::Range(0, 86400));
  PageServerOptions& p = o.page_server;
  app.add_flag("--page-server", p.use, "send the pages to a page server");
  app.add_option("--address", p.address, "of the page server")->capture_default_str();
  app.add_option("--port", p.port, "of the page server")->check(CLI::Range(1, 65535));
  app.add_option("--page-server-header", p.header, "bytes of a command's header: 24 for CRIU up to 4.1, 32 since")
      ->capture_default_str()
      ->check(CLI::IsMember({24, 32}));
  app.add_option("--page-server-fd", p.socket)->group("")->check(CLI::Range(0, highest_fd));
  app.add_flag("--tls", p.tls, "speak TLS with the page server");
  app.add_option("--tls-cacert", p.ca, "certificate of the authority");
  app.add_option("--tls-cacrl", p.revoked, "list of certificates that it has revoked");
  app.add_option("--tls-cert", p.certificate, "certificate of this side");
  app.add_option("--tls-key", p.key, "its key");
  app.add_flag("--tls-no-cn-verify", p.no_name_check, "do not compare the name in the server's certificate");
}

void add_restore(CLI::App& app, Options& o) {
  add_common(app, o);
  add_images(app, o);
  add_events(app, o);
  add_carried(app, o);
  app.add_option("-t,--tree", o.tree, "PID of the process, as the dump knows it")->check(CLI::Range(1, highest_pid));
  app.add_flag("-d,--restore-detached", o.detached, "do not wait for the process");
  app.add_flag("-s,--leave-stopped", o.leave_stopped, "leave the process stopped: SIGCONT lets it run");
  app.add_flag("-S,--restore-sibling", o.sibling, "make it a child of whoever started this command");
  app.add_flag("-n,--namespaces", o.namespaces, "in a new PID namespace, where every PID is free");
  app.add_flag("--auto-dedup", o.auto_dedup, "free the pages in the images as they are read");
}

void add_stopped(CLI::App& app, Options& o) {
  add_common(app, o);
  add_tree(app, o);
}

void check_together(const Options& o) {
  if (o.leave_running && o.leave_stopped)
    fail(Errc::invalid_argument, "--leave-running and --leave-stopped exclude each other");
  if (o.page_server.use && !o.page_server.port) fail(Errc::invalid_argument, "--page-server needs --port");
  if (o.page_server.use && o.page_server.socket < 0)
    throw Error(Errc::invalid_argument, "--page-server: the engine has no network, and got no socket",
                "run `godwit dump`, which connects");
  if (o.sibling && !o.detached) fail(Errc::invalid_argument, "--restore-sibling needs --restore-detached");
  if (o.shell_job && o.namespaces)
    fail(Errc::invalid_argument,
         "--shell-job and --namespaces exclude each other: the session of this command is not in the new one");
  if (o.shell_job && o.detached && o.leave_stopped && !o.sibling)
    throw Error(Errc::invalid_argument, "--shell-job: a stopped job that nobody waits for is told to hang up",
                "wait for it, or give --restore-sibling");
  if (o.sibling && o.namespaces)
    fail(Errc::invalid_argument,
         "--restore-sibling and --namespaces exclude each other: PID 1 of the new one is the parent");
}

using AddOptions = void (*)(CLI::App&, Options&);

void add_whole_dump(CLI::App& app, Options& o) {
  add_dump(app, o);
  app.add_flag("-s,--leave-stopped", o.leave_stopped, "leave the process stopped");
}

void add_in_images(CLI::App& app, Options& o) {
  add_images(app, o);
  add_common(app, o);
}

void add_show(CLI::App& app, Options& o) { app.add_option("files", o.names, "files or directories")->required(); }

void add_survey(CLI::App& app, Options& o) {
  add_tree(app, o);
  app.add_flag("--json", o.json, "print JSON");
  app.add_flag("--tcp-close", o.tcp_close, "let established TCP connections be reset");
  app.add_flag("-l,--file-locks", o.file_locks, "carry locks and leases of files");
  app.add_flag("-j,--shell-job", o.shell_job, "exchange a terminal from outside");
}

void add_job(CLI::App& app, Options& o) { app.add_option("--control-fd", o.control)->required(); }

void add_holder(CLI::App& app, Options& o) {
  add_tree(app, o);
  add_job(app, o);
}

// Of all commands, or of one: to add the others would take longer than to parse its options.
class Commands {
 public:
  explicit Commands(Options& o, std::string_view only = {}) : o_(o), only_(only) {}

  void add_all(CLI::App& app) {
    app.require_subcommand(1);
    add(app, "dump", "write a process into an images directory", add_whole_dump);
    add(app, "pre-dump", "write the memory of a process that runs on", add_dump);
    add(app, "restore", "make the process anew", add_restore);
    add(app, "dedup", "free what a dump supersedes in the ones before it", add_in_images);
    add(app, "check", "what of the kernel is there", add_common);
    add(app, "cpuinfo", "the processor: describe it, or compare it with a description",
        [](CLI::App& cpuinfo, Options& o) {
          cpuinfo.require_subcommand(1);
          Commands(o).add(cpuinfo, "dump", "write cpuinfo.img", add_in_images);
          Commands(o).add(cpuinfo, "check", "compare with cpuinfo.img", add_in_images);
        });
    add(app, "image", "look at images", [](CLI::App& image, Options& o) {
      image.require_subcommand(1);
      Commands(o).add(image, "show", "print images as JSON", add_show);
    });
    add(app, "kill", "end a process that a dump has left stopped", add_stopped);
    add(app, "resume", "let a process run on that a dump has left stopped", add_stopped);
    add(app, "survey", "what a process consists of, and what cannot be carried", add_survey);
    add(app, "job", "", add_job);
    add(app, "holder", "", add_holder);
  }

 private:
  // Without a help it is not listed.
  void add(CLI::App& app, std::string_view name, std::string_view help, AddOptions options) {
    if (!only_.empty() && name != only_) return;
    CLI::App& command = *app.add_subcommand(std::string(name), std::string(help));
    if (help.empty()) command.group("");
    options(command, o_);
    if (command.get_subcommands({}).empty()) command.allow_extras();
  }

  Options& o_;
  std::string_view only_;
};

void collect_options_with_value(CLI::App& app, std::set<std::string>& names) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_items_expected_max() == 0) continue;
    for (const std::string& name : option->get_lnames()) names.insert("--" + name);
    for (const std::string& name : option->get_snames()) names.insert("-" + name);
  }
  for (CLI::App* command : app.get_subcommands({})) collect_options_with_value(*command, names);
}

}  // namespace

std::set<std::string> options_with_value() {
  Options o;
  CLI::App app(about, program);
  Commands(o).add_all(app);
  std::set<std::string> names;
  collect_options_with_value(app, names);
  return names;
}

std::optional<Options> parse(const std::vector<std::string>& words) {
  Options o;
  CLI::App app(about, program);
  if (!words.empty()) Commands(o, words.front()).add_all(app);
  if (app.get_subcommands({}).empty()) Commands(o).add_all(app);  // it begins with no command
  try {
    parse_words(app, words);
  } catch (const CLI::CallForHelp& e) {
    app.exit(e);
    return std::nullopt;
  } catch (const CLI::ParseError& e) {
    throw Error(Errc::invalid_argument, e.what(), "see godwit --help, or --help after a command");
  }
  for (CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    o.command += (o.command.empty() ? "" : " ") + at->get_name();
    if (const auto extra = at->remaining(); !extra.empty()) refuse_word(o.command, extra.front());
  }
  if (o.timeout_s == 0) o.timeout_s = 86400;
  o.words = words;
  check_together(o);
  return o;
}

}  // namespace godwit::engine::commands
