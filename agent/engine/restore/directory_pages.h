// The pages in a directory of images, on their way into processes that are being restored.
//
// Small processes that were forked from others are filled by a second thread, while the caller's goes on making more of
// them: most of it is reading, and comparing with what the fork has left there. A large one, and whoever makes others,
// is filled by the caller's, which can have its pages placed by the kernel (memory/page_placer.h).
//
// Errors: as image::PageReader, and of memory that does not take them; of what the second thread does, when it is
// waited for. For one thread, the tracer of the processes.
#pragma once

#include "agent/engine/memory/address_space.h"
#include "agent/engine/memory/restored_segments.h"
#include "common/base/buffer.h"
#include "common/base/worker.h"
#include "common/image/page_reader.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>

namespace godwit::engine {

class DirectoryPages {
 public:
  // With `frees`, pages are freed in their files as they are read; it is told before, how many parents up from that
  // directory. Both are borrowed.
  using Frees = std::function<void(std::size_t level)>;
  DirectoryPages(int directory, const Frees& frees) : directory_(directory), frees_(frees) {}
  ~DirectoryPages() { abandoned_ = true; }
  DirectoryPages(const DirectoryPages&) = delete;
  DirectoryPages& operator=(const DirectoryPages&) = delete;

  // Makes the second thread, before there are so many processes. It takes the CPUs of its maker, who is not to be
  // pinned.
  void begin_aside(std::size_t processes);
  // The content of a process, once: it is whole on return.
  void fill(pid_t pid, AddressSpace& memory);
  // Or maybe only with finish(), or a fill() of the same process. Its layout stays as it is until then.
  void fill_aside(pid_t pid, AddressSpace& memory);
  bool is_aside(pid_t pid) const { return aside_.contains(pid); }
  void fill(std::uint64_t shmid, RestoredSegments& segments);
  // Waits for the second thread. How many pages came in all.
  std::uint64_t finish();

 private:
  using Put = std::function<void(std::span<const pagewire::Run>, std::span<const std::byte>)>;
  image::PageReader reader(image::Kind kind, std::uint64_t id) const;
  struct Aside {
    AddressSpace& memory;
    std::future<std::uint64_t> pages;
  };
  std::uint64_t result(pid_t pid, Aside& aside);
  std::uint64_t read(image::PageReader& reader, const std::string& name, bool compared, Buffer& room,
                     const Put& put) const;
  std::uint64_t read(image::PageReader& reader, pid_t pid, AddressSpace& memory, Buffer& room) const;

  int directory_;
  const Frees& frees_;
  std::set<pid_t> begun_;
  std::uint64_t pages_ = 0;
  Buffer room_, room_aside_;
  std::map<pid_t, Aside> aside_;
  std::atomic<bool> abandoned_ = false;
  std::optional<Worker> second_;  // ends before what it works on
};

}  // namespace godwit::engine
