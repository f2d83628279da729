// What /proc says of the threads of stopped tasks, read on another CPU while this one is busy with their memory and
// descriptors: a thread's stat and status cost 100 us. One use each.
#pragma once

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
  // Its thread may run on every CPU that the caller may run on now, also when the caller pins itself later.
  FactsReader();
  ~FactsReader();  // waits for what was begun
  FactsReader(const FactsReader&) = delete;
  FactsReader& operator=(const FactsReader&) = delete;

  struct Thread {
    pid_t pid = 0, tid = 0;  // host
  };
  void begin(std::vector<Thread> threads);  // they stand still, until take() has returned
  Facts take();                             // throws what a read threw

 private:
  static Facts read(const std::vector<Thread>& threads);

  std::promise<std::vector<Thread>> asked_;
  bool begun_ = false;
  std::future<Facts> facts_;  // last: waits for its thread, which waits for `asked_`
};

}  // namespace godwit::engine::tasks
