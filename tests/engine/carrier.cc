// Starts a program in a PID, mount and network namespace of its own and moves it, live, to another one and back, as
// often as its standard input says. For tests/support/run-workload.
//
//   engine_carrier [--tcp-close] [--local DIR] LOG PROGRAM [ARG...]
//
// DIR is another directory in each namespace. One line in, one line out:
//   precopy N      N rounds                       -> ok
//   move SECONDS   stays frozen for that long     -> ok PID
//   status         of the program, if it ended    -> ok [STATUS]
// or "failed: sentence". At the end of its input it ends whatever it started.

#include "tests/engine/move.h"

#include "common/base/check.h"
#include "common/proc/reader.h"

#include <csignal>
#include <iostream>
#include <memory>
#include <sstream>

#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

struct Arguments {
  Options options;
  std::string local, log;
  std::vector<char*> program;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  int i = 1;
  for (; i < argc && argv[i][0] == '-'; i++) {
    const std::string_view word = argv[i];
    if (word == "--tcp-close")
      arguments.options.set_tcp_close(true);
    else if (word == "--file-locks")
      continue;  // a job always carries them
    else if (word == "--local" && i + 1 < argc)
      arguments.local = argv[++i];
    else
      fail(Errc::invalid_argument, "unknown option {}", word);
  }
  if (i + 1 >= argc) fail(Errc::invalid_argument, "a log and a program are needed");
  arguments.log = argv[i++];
  for (; i <= argc; i++) arguments.program.push_back(argv[i]);  // with the null pointer
  return arguments;
}

class Carrier {
 public:
  explicit Carrier(Arguments arguments)
      : arguments_(std::move(arguments)), here_(arguments_.local), there_(arguments_.local) {
    next_cgroup(cgroup_);
    pid_ = current().run(arguments_.log, [this] {
      ::execv(arguments_.program[0], arguments_.program.data());
      ::_exit(127);
    });
    guest_pid_ = proc::Reader(pid_).status().ns_pid.back();
  }

  void precopy(int rounds) {
    if (!move_) {
      const std::string spool = dir_.path(fmt::format("spool-{}", hops_));
      check(::mkdir(spool.c_str(), 0700), "make a spool");
      next_cgroup(next_cgroup_);
      move_ = std::make_unique<Move>(Move::Route{.pid = pid_,
                                                 .source = *cgroup_,
                                                 .destination = *next_cgroup_,
                                                 .to = other(),
                                                 .options = arguments_.options,
                                                 .spool = spool});
    }
    for (int i = 0; i < rounds; i++) move_->precopy();
  }

  pid_t move(double seconds) {
    move_->freeze();
    ::usleep(static_cast<useconds_t>(seconds * 1e6));
    pid_ = move_->finish();
    cgroup_.reset();  // ends the copy at the source
    if (!wait_for([&] { return current().take_end(guest_pid_).has_value(); }))
      fail(Errc::timed_out, "the copy at the source does not end");
    move_.reset();
    cgroup_ = std::move(next_cgroup_);
    hops_++;
    cgroup_->thaw();
    return pid_;
  }

  std::optional<int> status() { return current().take_end(guest_pid_); }

 private:
  PidNamespace& current() { return hops_ % 2 ? there_ : here_; }
  PidNamespace& other() { return hops_ % 2 ? here_ : there_; }
  void next_cgroup(std::unique_ptr<TestCgroup>& cgroup) {
    cgroup = std::make_unique<TestCgroup>(std::to_string(++cgroups_));
  }

  const Arguments arguments_;
  TempDir dir_;
  PidNamespace here_, there_;
  std::unique_ptr<TestCgroup> cgroup_, next_cgroup_;
  std::unique_ptr<Move> move_;
  pid_t pid_ = -1, guest_pid_ = -1;
  int hops_ = 0, cgroups_ = 0;
};

std::string obey(Carrier& carrier, const std::string& line) {
  std::istringstream words(line);
  std::string command;
  double number = 0;
  words >> command >> number;
  if (command == "precopy") return carrier.precopy(static_cast<int>(number)), "ok";
  if (command == "move") return fmt::format("ok {}", carrier.move(number));
  if (command == "status") {
    const std::optional<int> status = carrier.status();
    return status ? fmt::format("ok {}", *status) : "ok";
  }
  fail(Errc::invalid_argument, "unknown command {}", command);
}

int run(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  Carrier carrier(parse(argc, argv));
  for (std::string line; std::getline(std::cin, line);) {
    try {
      std::cout << obey(carrier, line) << std::endl;
    } catch (const Error& e) {
      std::cout << "failed: " << e.message() << std::endl;
    }
  }
  return 0;
}

}  // namespace
}  // namespace godwit::engine::test

int main(int argc, char** argv) {
  try {
    return godwit::engine::test::run(argc, argv);
  } catch (const godwit::Error& e) {
    std::cout << "failed: " << e.message() << std::endl;
    return 1;
  }
}
