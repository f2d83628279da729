// What /proc says of the threads of stopped tasks, read on another CPU while this one is busy with their memory and
// descriptors: a thread's stat and status cost 30 to 100 us. One use each.
#pragma once

#include "common/base/worker.h"
#include "common/proc/stat.h"
#include "common/proc/status.h"

#include <atomic>
#include <future>
#include <map>
#include <vector>

#include <sys/types.h>

namespace godwit::engine::tasks {

struct ThreadFacts {
  proc::Stat stat;
  proc::Status status;
};

class FactsReader {
 public:
  struct Thread {
    pid_t pid = 0, tid = 0;  // host
  };
  FactsReader() = default;
  ~FactsReader() { abandoned_ = true; }  // what has not been read by then is not
  FactsReader(const FactsReader&) = delete;
  FactsReader& operator=(const FactsReader&) = delete;

  void begin(const std::vector<Thread>& threads);  // in this order; they stand still until they have been asked for
  // One of them, by host TID: waits until it has been read, with some others. Throws what that threw.
  const ThreadFacts& at(pid_t tid);

 private:
  using Facts = std::map<pid_t, ThreadFacts>;

  Facts known_;
  std::map<pid_t, std::size_t> part_of_;
  std::vector<std::future<Facts>> parts_;
  std::atomic<bool> abandoned_ = false;
  Worker worker_;  // the last member: it is done before the others go
};

}  // namespace godwit::engine::tasks
