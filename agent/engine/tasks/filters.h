// seccomp: strict mode, and filters. Each thread has a chain of these, the oldest first; what it was born with, or got
// by SECCOMP_FILTER_FLAG_TSYNC, is another thread's, too, and a later TSYNC needs that. Nobody can see whether two
// threads have the same filter or equal ones: chains that begin alike are taken to be the same up to there.
//
// In the images, as CRIU has them, a thread names the oldest of its filters, and `prev` of each is the one on top of
// it. Where all threads of a process have the same ones, only the first names them, with SECCOMP_FILTER_FLAG_TSYNC:
// CRIU then restores them as one for all. (The kernel does not know any more how they came to have them.)
//
// Our own calls pass the filters of a traced thread (ptrace/tracing.h).
#pragma once

#include "agent/engine/ptrace/batch.h"
#include "agent/engine/tasks/refusals.h"
#include "common/image/core.pb.h"
#include "common/image/image_set.h"
#include "common/image/seccomp.pb.h"

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/types.h>

namespace godwit::engine::tasks::filters {

// Why a filter, struct sock_filter back to back, is not carried; nothing: it is.
std::optional<std::string> refuse(std::string_view program);

// Those of a thread in a trap stop of this engine.
void refuse_chain(pid_t tid, const std::string& name, std::vector<Refusal>& found);

// A filter of a thread, as the kernel tells of it.
struct Filter {
  std::uint32_t flags = 0;
  std::string program;
  auto operator<=>(const Filter&) const = default;
};

// seccomp.img, while the threads of a tree are dumped.
class Dump {
 public:
  struct Thread {
    pid_t tid = 0;           // in a trap stop of this engine
    std::uint32_t mode = 0;  // of its status
    image::ThreadCoreEntry* into = nullptr;
  };
  // All threads of one process, its first thread first.
  void process(std::span<const Thread> threads, std::vector<Refusal>& found);
  void write(image::ImageSet& out) const;

 private:
  std::uint32_t add(std::span<const Filter> chain);  // the number of its oldest

  image::SeccompEntry all_;
  std::map<std::pair<std::uint32_t, Filter>, std::uint32_t> numbers_;  // by that of the one on top
};

// The oldest first; equal numbers: equal filters.
using Chain = std::vector<std::uint32_t>;

// What an image set has. Errc::image_corrupt, also for what no thread can have.
class Stored {
 public:
  explicit Stored(const image::ImageSet& images);

  // `leader`: the first thread of its process.
  Chain chain_of(const image::ThreadCoreEntry& thread, const image::ThreadCoreEntry& leader) const;
  std::optional<std::string> refusal() const;  // of a filter that is not carried
  // That each belongs to a thread, whose oldest is one of these.
  void require_owners(std::span<const std::uint32_t> oldest) const;

  // Before the thread's credentials, which may not allow it.
  void restore(Batch& batch, std::uint32_t number) const;

 private:
  std::uint32_t above(std::uint32_t number) const;
  Chain own_chain_of(const image::ThreadCoreEntry& thread) const;

  image::SeccompEntry entry_;
  std::vector<std::uint32_t> same_;  // by position in the image: the first one that is equal
};

// After the last call that makes a thread, which would be in strict mode, too.
void restore_strict(Batch& batch, const image::ThreadCoreEntry& thread);

}  // namespace godwit::engine::tasks::filters
