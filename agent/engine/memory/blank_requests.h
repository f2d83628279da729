// AIO requests that come to nothing: reads of an eventfd that has nothing to read. Each is over when it is submitted,
// has posted an event, and takes up a place in its context until that is fetched.
#pragma once

#include "agent/engine/memory/aio_ring.h"

#include <vector>

namespace godwit::engine {

// In a stopped thread, which has one descriptor more meanwhile.
class BlankRequests {
 public:
  BlankRequests(RemoteSyscalls& remote, RemoteAddr scratch);
  // With an eventfd that is there.
  BlankRequests(RemoteSyscalls& remote, RemoteAddr scratch, int eventfd)
      : remote_(remote), scratch_(scratch), eventfd_(eventfd) {}
  ~BlankRequests();
  BlankRequests(const BlankRequests&) = delete;
  BlankRequests& operator=(const BlankRequests&) = delete;

  int eventfd() const { return eventfd_; }
  // Whether it is the event of a blank request, whoever submitted that: they all lie in the scratch memory.
  bool posted(const io_event& event) const { return event.obj - raw(scratch_) < ScratchLayout::size; }

 private:
  friend class BlankBatch;
  RemoteSyscalls& remote_;
  RemoteAddr scratch_;
  int eventfd_;
};

// Calls for one context, run together.
class BlankBatch {
 public:
  // `number` is the data of their events.
  BlankBatch(const BlankRequests& requests, RemoteAddr context, std::uint32_t capacity, std::uint64_t number = 0);

  // As many as there is room for, `count` at most.
  void submit(std::uint32_t count);
  // All that is there, whatever it is.
  void fetch();
  // Other calls.
  Batch& batch() { return batch_; }

  void run();
  // In two halves for who has to go on first. Whether somebody else sent SIGSTOP meanwhile:
  bool run_disturbed();
  // Throws for the first call that failed.
  void check() const;
  std::uint32_t submitted() const { return submitted(submits_.size()); }
  std::uint32_t submitted(std::size_t first) const;  // by the first calls of submit()
  std::size_t submits() const { return submits_.size(); }

 private:
  RemoteSyscalls& remote_;
  Batch batch_;
  RemoteAddr context_;
  std::uint32_t capacity_, at_once_;
  RemoteAddr request_, list_, events_;
  std::vector<std::size_t> submits_, fetches_;
};

}  // namespace godwit::engine
