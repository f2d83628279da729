// The two ends of the whole page path, for page_path.cc: the memory of another process at the source, fresh memory at
// the destination. What lies between is the product's own; at the destination pages are placed by userfaultfd into
// memory of this process, which costs the kernel what it costs it for another one.
#pragma once

#include "agent/engine/memory/absorber.h"
#include "agent/engine/memory/page_emitter.h"
#include "agent/engine/memory/process_reader.h"
#include "agent/engine/memory/ring_sink.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/units.h"

#include <linux/userfaultfd.h>

#include <condition_variable>
#include <csignal>
#include <cstring>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::bench {

inline constexpr std::uint64_t seed = 7;

class AnonymousMemory {
 public:
  explicit AnonymousMemory(std::uint64_t size) : size_(size) {
    void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) throw syscall_error(errno, "map memory");
    start_ = reinterpret_cast<std::uint64_t>(at);
    ::madvise(at, size, MADV_NOHUGEPAGE);  // as redis has it
  }
  ~AnonymousMemory() { ::munmap(reinterpret_cast<void*>(start_), size_); }
  AnonymousMemory(const AnonymousMemory&) = delete;
  AnonymousMemory& operator=(const AnonymousMemory&) = delete;
  std::uint64_t start() const { return start_; }
  std::uint64_t end() const { return start_ + size_; }

 private:
  std::uint64_t start_ = 0, size_;
};

// A process with so much memory, and what sends it.
class SourceMemory {
 public:
  explicit SourceMemory(std::uint64_t size) : memory_(size) {
    int filled[2];
    check(::pipe2(filled, O_CLOEXEC), "make a pipe");
    const UniqueFd reading(filled[0]), writing(filled[1]);
    pid_ = check(::fork(), "fork");
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      std::memset(reinterpret_cast<void*>(memory_.start()), 0x5a, memory_.end() - memory_.start());
      if (::write(writing.get(), "", 1) == 1) ::pause();
      ::_exit(0);
    }
    char byte = 0;
    if (::read(reading.get(), &byte, 1) != 1) fail(Errc::internal, "the source did not fill its memory");
  }
  ~SourceMemory() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  SourceMemory(const SourceMemory&) = delete;
  SourceMemory& operator=(const SourceMemory&) = delete;

  std::uint64_t start() const { return memory_.start(); }

  // All of it. Returns the last sequence number.
  std::uint64_t send(pagewire::Ring& ring) const {
    const UniqueFd file = open_file(fmt::format("/proc/{}/mem", pid_), O_RDONLY);
    engine::ProcessReader reader(pid_, file.get());
    engine::RingSink sink(ring, seed, [](std::chrono::milliseconds pause) { std::this_thread::sleep_for(pause); });
    engine::PageSet sent;
    engine::Debt debt;
    engine::PageEmitter emitter(pagewire::object_id(pagewire::ObjectType::task, 1), reader, sink, sent, &debt);
    emitter.add(memory_.start(), memory_.end(), false);
    emitter.flush();
    return sink.end_round();
  }

 private:
  AnonymousMemory memory_;
  pid_t pid_ = -1;
};

// Fresh memory, and a thread that takes pages out of the spool and places them there.
class DestinationMemory : private engine::FrameTarget {
 public:
  using Freed = std::function<void(engine::Absorber::Freed)>;  // called on that thread

  // `source_start`: where the pages lie at the source.
  DestinationMemory(std::uint64_t size, std::uint64_t source_start, UniqueFd spool, std::uint64_t window, Freed freed)
      : memory_(size),
        source_start_(source_start),
        absorber_(std::move(spool), seed, window),
        freed_(std::move(freed)) {
    userfaultfd_ = UniqueFd(check(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC)), "make a userfaultfd"));
    uffdio_api api{};
    api.api = UFFD_API;
    check(::ioctl(userfaultfd_.get(), UFFDIO_API, &api), "open a userfaultfd");
    uffdio_register request{};
    request.range = {memory_.start(), size};
    request.mode = UFFDIO_REGISTER_MODE_MISSING;
    check(::ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &request), "register memory");
    thread_ = std::thread([this] { absorb(); });
  }
  ~DestinationMemory() override {
    give([this] { ending_ = true; });
    thread_.join();
  }

  void manifest(std::string entries) {
    give([this, &entries] { entries_.push_back(std::move(entries)); });
  }
  void stored(std::uint32_t stream, std::uint64_t upto) {
    give([this, stream, upto] { stored_.emplace_back(stream, upto); });
  }
  bool complete() const { return complete_; }  // a whole round is in memory

 private:
  template <class Change>
  void give(Change change) {
    {
      const std::lock_guard lock(mutex_);
      change();
    }
    given_.notify_one();
  }
  void absorb() {
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        given_.wait(lock, [this] { return ending_ || !entries_.empty() || !stored_.empty(); });
        if (ending_) return;
        for (const std::string& entries : std::exchange(entries_, {})) absorber_.manifest(entries);
        for (const auto& [stream, upto] : std::exchange(stored_, {})) absorber_.stored(stream, upto);
      }
      while (absorber_.absorb(*this) > 0)
        for (const auto& freed : absorber_.freed()) freed_(freed);
      for (const auto& freed : absorber_.freed()) freed_(freed);
    }
  }

  void pages(pagewire::ObjectId, std::span<const pagewire::Run> runs, std::span<const std::byte> data) override {
    for (const pagewire::Run& run : runs) {
      uffdio_copy copy{};
      copy.dst = memory_.start() + (run.address - source_start_);
      copy.src = reinterpret_cast<std::uint64_t>(data.data());
      copy.len = run.pages * page_size;
      copy.mode = UFFDIO_COPY_MODE_DONTWAKE;
      check(::ioctl(userfaultfd_.get(), UFFDIO_COPY, &copy), "place pages");
      data = data.subspan(run.pages * page_size);
    }
  }
  void zero(pagewire::ObjectId, std::span<const pagewire::Run>) override {}
  void drop(pagewire::ObjectId, std::span<const pagewire::Run>) override {}
  void file(std::string_view, std::uint64_t, std::span<const std::byte>, bool) override {}
  void round_ended(std::uint32_t) override { complete_ = true; }

  AnonymousMemory memory_;
  std::uint64_t source_start_;
  UniqueFd userfaultfd_;
  engine::Absorber absorber_;  // of the thread alone
  Freed freed_;
  std::mutex mutex_;
  std::condition_variable given_;
  std::vector<std::string> entries_;
  std::vector<std::pair<std::uint32_t, std::uint64_t>> stored_;
  bool ending_ = false;
  std::atomic<bool> complete_ = false;
  std::thread thread_;
};

}  // namespace godwit::bench
