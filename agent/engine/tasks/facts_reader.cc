#include "agent/engine/tasks/facts_reader.h"

#include "common/proc/reader.h"

#include <utility>

namespace godwit::engine::tasks {
namespace {

Facts read(const std::vector<FactsReader::Thread>& threads) {
  Facts facts;
  for (const auto& [pid, tid] : threads) {
    const proc::Reader thread(pid, tid);
    facts[tid] = {thread.stat(), thread.status()};
  }
  return facts;
}

}  // namespace

void FactsReader::begin(std::vector<Thread> threads) {
  facts_ = worker_.run([threads = std::move(threads)] { return read(threads); });
}

Facts FactsReader::take() { return facts_.get(); }

}  // namespace godwit::engine::tasks
