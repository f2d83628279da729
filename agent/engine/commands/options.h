// The command line of the commands that need no daemon: CRIU's, with CRIU's names and meanings, and a few of our own.
//
// Parsing does nothing else. What CRIU has and we have not is refused by name (foreign_options.h).
#pragma once

#include "common/commandline/verbosity.h"

#include <optional>
#include <set>
#include <string>
#include <vector>

#include <sys/types.h>

namespace godwit::engine::commands {

// A dump's way to a page server, CRIU's or ours.
struct PageServerOptions {
  bool use = false;  // --page-server: pages go there, not into the images directory
  std::string address = "127.0.0.1";
  unsigned port = 0;
  bool tls = false;
  std::string ca, certificate, key;  // paths; empty: CRIU's places below /etc/pki
  std::string revoked;               // --tls-cacrl; empty: no list
  bool no_name_check = false;        // --tls-no-cn-verify
  int socket = -1;                   // --page-server-fd: connected by whoever started the engine, which has no network
  unsigned header = 32;              // bytes of a command: 24 up to CRIU 4.1, 32 since; the server cannot be asked
};

struct Options {
  std::string command;             // "dump", "image show", ...
  std::vector<std::string> words;  // the command line after the command, for a holder to parse again

  pid_t tree = 0;
  std::string images = ".";  // --images-dir
  std::string previous;      // --prev-images-dir, relative to `images`; empty: none
  std::string work;          // --work-dir; empty: the images directory
  std::string log_file;      // relative to the work directory; empty: standard error; "-": standard output
  int verbosity = usual_verbosity;
  std::string pidfile;      // relative to the work directory
  int status_fd = -1;       // a zero byte is written to it, and it is closed, when the command has done its work
  unsigned timeout_s = 10;  // for a dump to get everything stopped
  std::vector<std::string> action_scripts;

  bool leave_running = false;
  bool leave_stopped = false;  // of a dump, or of a restore
  bool track_memory = false;
  bool auto_dedup = false;
  bool tcp_close = false;
  PageServerOptions page_server;

  bool detached = false;    // --restore-detached
  bool sibling = false;     // --restore-sibling
  bool namespaces = false;  // restore into a new PID namespace

  bool file_locks = false;
  bool shell_job = false;  // a terminal from outside is exchanged for that of the restore
  // Kinds that are not carried yet: the options are there, and what they are about is refused by name.
  bool link_remap = false, tcp_established = false, unix_sockets = false;

  bool json = false;               // survey
  int control = -1;                // job, holder
  std::vector<std::string> names;  // image show: files or directories
};

// Nothing when there is nothing to do (--help, which is answered). Errc::invalid_argument names what is wrong.
std::optional<Options> parse(const std::vector<std::string>& words);

// "-D", "--images-dir": those of any command whose value may be the next word.
std::set<std::string> options_with_value();

}  // namespace godwit::engine::commands
