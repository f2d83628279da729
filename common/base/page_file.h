// A new file of pages, each of which is written once, by several threads.
//
// On tmpfs pages are placed, but for those of a small file, into a mapping of the file by userfaultfd: for pwrite(2)
// the kernel locks the file, and its way through the page cache costs nearly twice as much CPU. Anywhere else, and
// where there is no userfaultfd (5.11+ gives everybody one that only serves his own faults), it is pwrite(2).
//
// Errors are those of pwrite(2): Errc::no_space and so on.
#pragma once

#include "common/base/fd.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

namespace godwit {

// Whether files of this directory, or this file, lie in memory.
bool in_memory(int fd);

class PageFile {
 public:
  PageFile() = default;
  explicit PageFile(UniqueFd file);  // empty, opened for reading and writing
  PageFile(const PageFile&) = delete;
  PageFile& operator=(const PageFile&) = delete;

  int fd() const { return file_.get(); }

  // From any thread, each its own pages. Until finish() the file may be longer than what was written.
  void write(std::span<const std::byte> pages, std::uint64_t offset);

  // It has this length, and is no longer mapped. Nobody writes meanwhile or afterwards.
  void finish(std::uint64_t length);

  // The file, which is nobody's any more here.
  UniqueFd take() { return std::move(file_); }

 private:
  // A part of the file that is mapped: only the latest are, however long the file gets.
  struct Window {
    std::byte* start;
    explicit Window(std::byte* at) : start(at) {}
    ~Window();
    Window(const Window&) = delete;
    Window& operator=(const Window&) = delete;
  };
  struct Mapped {
    std::uint64_t index = 0;
    std::shared_ptr<Window> window;
  };
  std::shared_ptr<Window> window(std::uint64_t index);
  std::shared_ptr<Window> map(std::uint64_t index);
  std::size_t place(std::span<const std::byte> pages, std::uint64_t offset);

  UniqueFd file_;
  UniqueFd userfaultfd_;  // from the first page on that is placed
  std::atomic<bool> unmappable_ = false;
  std::mutex mutex_;
  std::array<Mapped, 2> mapped_;  // the one used last is first
  std::uint64_t length_ = 0;      // that the file was given
};

}  // namespace godwit
