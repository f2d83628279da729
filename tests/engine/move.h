// One live move of a process, driven step by step as an agent would: an engine job at either end and the page path
// between them. Errors are what the engine says.
#pragma once

#include "tests/engine/harness.h"

#include <string>

namespace godwit::engine::test {

class Move {
 public:
  struct Route {
    pid_t pid = -1;  // host PID of the copy at the source
    const TestCgroup& source;
    const TestCgroup& destination;
    const PidNamespace& to;
    Options options;
    std::string spool;  // directory for the pages on their way
  };
  // Surveys the process and prepares the destination.
  explicit Move(const Route& route);

  void precopy();  // one round, while the process runs
  void freeze();   // the last round; the copy at the source is frozen from here on
  pid_t finish();  // both copies are held by their cgroups then; the host PID of the new one

 private:
  Event ask(JobClient& job, Command command);

  const TestCgroup& source_cgroup_;
  std::uint64_t last_id_ = 1'000'000;
  std::uint32_t round_ = 0;
  std::uint64_t last_sequence_ = 0;
  UniqueFd source_journal_, destination_journal_;
  JobClient source_, destination_;
  Pump pump_;
};

}  // namespace godwit::engine::test
