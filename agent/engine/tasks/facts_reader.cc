#include "agent/engine/tasks/facts_reader.h"

#include "common/base/error.h"
#include "common/proc/reader.h"

#include <ranges>

namespace godwit::engine::tasks {
namespace {

constexpr std::size_t at_once = 32;  // 3 ms

}  // namespace

void FactsReader::begin(const std::vector<Thread>& threads) {
  for (std::size_t first = 0; first < threads.size(); first += at_once) {
    const auto some = threads | std::views::drop(first) | std::views::take(at_once);
    for (const Thread& thread : some) part_of_[thread.tid] = parts_.size();
    parts_.push_back(worker_.run([this, part = std::vector(some.begin(), some.end())] {
      Facts facts;
      for (const auto& [pid, tid] : part) {
        if (abandoned_) break;
        const proc::Reader thread(pid, tid);
        facts[tid] = {thread.stat(), thread.status()};
      }
      return facts;
    }));
  }
}

const ThreadFacts& FactsReader::at(pid_t tid) {
  const auto part = part_of_.find(tid);
  if (part == part_of_.end()) fail(Errc::internal, "thread {} was not asked about", tid);
  if (std::future<Facts>& facts = parts_[part->second]; facts.valid()) known_.merge(facts.get());
  return known_.at(tid);
}

}  // namespace godwit::engine::tasks
