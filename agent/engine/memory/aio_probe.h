// One look at one ring of native AIO (aio_requests.h). While it lasts, events that nobody has fetched are here and in
// the journal only.
#pragma once

#include "agent/engine/memory/blank_requests.h"
#include "agent/engine/ptrace/journal.h"

#include <string_view>
#include <vector>

namespace godwit::engine {

struct Processors {
  std::uint32_t possible = 0;         // how many
  std::vector<std::uint32_t> online;  // their numbers
};

class AioProbe {
 public:
  // `file` is the /proc/PID/mem of a process that is held.
  AioProbe(Journal::Process& journal, const BlankRequests& blanks, int file, std::uint64_t address,
           const AioRing& ring);
  // In the place of one whose engine has died.
  AioProbe(Journal::Process& journal, const BlankRequests& blanks, int file, const AioLook& left);

  // No request is in flight.
  bool idle(const Processors& processors) { return pass(processors, false) || pass(processors, true); }
  bool disturbed() const { return disturbed_; }  // by a SIGSTOP
  // If it may be that some are: there are CPUs where the process may not run, so that nobody knows what is set aside
  // there.
  bool confined() const { return confined_; }
  // Puts the ring back, without an answer.
  void finish();

 private:
  bool pass(const Processors& processors, bool everywhere);
  bool fill_up(const Processors& processors, bool everywhere);
  std::vector<std::size_t> visit_others(BlankBatch& batch, const Processors& processors, std::uint32_t set_aside) const;
  void move_back(Batch& calls) const;
  void run(BlankBatch& batch);
  void absorb(const BlankBatch& batch);
  void take_over();
  void keep_others(std::uint32_t from, std::uint32_t count);
  void note(std::uint32_t tail);
  AioProgress now() const { return {.seen = seen_, .batch = batch_, .unfetched = unfetched_}; }
  void post(std::uint32_t count);
  void go_round();
  void clear() noexcept;
  void come_round();
  void put_back();
  io_event event(std::uint32_t index) const;

  Journal::Process& journal_;
  const BlankRequests& blanks_;
  int file_;
  std::uint64_t address_;
  AioRing ring_;
  std::uint32_t head_;  // where it was, and comes to be again
  std::vector<std::byte> affinity_;
  std::uint32_t seen_ = 0;    // the tail up to which `unfetched_` is complete
  std::uint64_t batch_ = 1;   // which one is next
  std::uint32_t posted_ = 0;  // by us
  std::vector<io_event> unfetched_;
  bool disturbed_ = false, confined_ = false;
  std::string_view point_ = "engine.aio.run";
};

}  // namespace godwit::engine
