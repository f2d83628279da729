// What /proc says of the threads of stopped tasks, read on another CPU while this one is busy with their memory and
// descriptors: a thread's stat and status cost 100 us. One use each.
#pragma once

#include "common/base/worker.h"
#include "common/proc/stat.h"
#include "common/proc/status.h"

#include <future>
#include <map>
#include <vector>

#include <sys/types.h>

namespace godwit::engine::tasks {

struct ThreadFacts {
  proc::Stat stat;
  proc::Status status;
};
using Facts = std::map<pid_t, ThreadFacts>;  // by host TID

class FactsReader {
 public:
  struct Thread {
    pid_t pid = 0, tid = 0;  // host
  };
  void begin(std::vector<Thread> threads);  // they stand still, until take() has returned
  Facts take();                             // throws what a read threw

 private:
  Worker worker_;
  std::future<Facts> facts_;
};

}  // namespace godwit::engine::tasks
