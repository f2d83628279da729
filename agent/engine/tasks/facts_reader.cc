#include "agent/engine/tasks/facts_reader.h"

#include "common/proc/reader.h"

#include <csignal>
#include <utility>

#include <pthread.h>

namespace godwit::engine::tasks {

FactsReader::FactsReader() {
  // Signals are the engine's.
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  facts_ = std::async(std::launch::async, [asked = asked_.get_future()]() mutable { return read(asked.get()); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

FactsReader::~FactsReader() {
  if (!begun_) asked_.set_value({});
}

void FactsReader::begin(std::vector<Thread> threads) {
  begun_ = true;
  asked_.set_value(std::move(threads));
}

Facts FactsReader::take() { return facts_.get(); }

Facts FactsReader::read(const std::vector<Thread>& threads) {
  Facts facts;
  for (const auto& [pid, tid] : threads) {
    const proc::Reader thread(pid, tid);
    facts[tid] = {thread.stat(), thread.status()};
  }
  return facts;
}

}  // namespace godwit::engine::tasks
