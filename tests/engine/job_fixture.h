// A counting process in a PID namespace, and engine jobs that move it, or try to, into another one.
#pragma once

#include "tests/engine/harness.h"

#include <gtest/gtest.h>

namespace godwit::engine::test {

// What the target does unless a test has another: counts loudly. A SIGCONT handler that runs, a sleep that is cut
// short, a changed PID: each is a line with "bad".
void count();

UniqueFd make_journal();

// A job for each side, and the pages between them.
class Jobs {
 public:
  explicit Jobs(const std::string& spool, const std::string& destination_fault = {});
  Event ask(JobClient& job, Command command);  // carrying pages meanwhile
  void carry() { pump_(); }

 private:
  UniqueFd source_journal_ = make_journal(), destination_journal_ = make_journal();

 public:
  JobClient source, destination;

 private:
  Pump pump_;
  std::uint64_t next_id_ = 1000;
};

class JobTest : public ::testing::Test {
 protected:
  virtual void be_target() { count(); }
  void SetUp() override;

  bool goes_on();  // the target writes lines
  void expect_undisturbed();

  Event survey(JobClient& job);
  static Command round(std::uint32_t number);
  static Command freeze(std::uint32_t number, const TestCgroup& cgroup);
  Event prepare(JobClient& job, const TestCgroup& cgroup, int init);

  void begin(Jobs& jobs);                                // survey and prepare
  Event finish(Jobs& jobs, const Event& frozen);         // the destination's answer
  void expect_arrival(Jobs& jobs, const Event& frozen);  // finishes; from here on the copy is the target
  // From one namespace to the other, with `between` after each of three rounds.
  void move(const std::function<void(int round)>& between);

  TempDir dir_;
  std::string spool_ = dir_.path("spool");
  PidNamespace home_, away_;
  TestCgroup source_cgroup_{"src"}, destination_cgroup_{"dst"};
  pid_t pid_ = -1;
};

}  // namespace godwit::engine::test
