// A program that a test runs.
#pragma once

#include "common/base/fd.h"
#include "common/base/waiting.h"

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char** environ;

namespace godwit::coordinator {

struct Ended {
  int code = -1;
  std::string out, err;
};

// A child with its output in files; killed when the test ends before it does.
class Child {
 public:
  Child(const std::string& program, std::vector<std::string> arguments, const std::vector<std::string>& environment) {
    arguments.insert(arguments.begin(), program);
    std::vector<char*> argv, env;
    for (std::string& a : arguments) argv.push_back(a.data());
    std::vector<std::string> variables = environment;
    for (char** e = environ; *e; e++) variables.emplace_back(*e);
    for (std::string& v : variables) env.push_back(v.data());
    argv.push_back(nullptr);
    env.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int rc = ::posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv.data(), env.data());
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) throw syscall_error(rc, "start " + program);
  }
  ~Child() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    std::filesystem::remove_all(directory_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  bool ended() {
    if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
    return pid_ < 0;
  }
  Ended result() const { return {shell_status(status_), read_file(out_), read_file(err_)}; }
  std::string err() const { return std::filesystem::exists(err_) ? read_file(err_) : ""; }
  void signal(int number) { ::kill(pid_, number); }

 private:
  std::string directory_ = [] {
    char name[] = "/tmp/godwit-cli-XXXXXX";
    return std::string(::mkdtemp(name));
  }();
  std::string out_ = directory_ + "/out", err_ = directory_ + "/err";
  pid_t pid_ = -1;
  int status_ = 0;
};

}  // namespace godwit::coordinator
