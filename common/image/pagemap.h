// pagemap-*.img: which pages an image set has. Runs are sorted by address and do not overlap; what no run
// covers was never touched and reads as zeroes.
//
// CRIU up to 4.1 kept the count in field 2 (32 bits), 4.2 keeps it in field 5 and leaves 0 in field 2, which
// older versions take for no pages at all. So we write field 2 only, with long runs split, and read both.
//
// Errors: writing out of order is Errc::internal, a bad file Errc::image_corrupt.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::image {

enum class PageFlag : std::uint32_t {
  parent = 1,   // unchanged since the parent image set
  lazy = 2,     // may be fetched after the restore
  present = 4,  // its bytes are in pages-N.img
};

struct PageRun {
  std::uint64_t vaddr = 0;  // of a shared memory object: offset
  std::uint64_t pages = 0;
  std::uint32_t flags = 0;  // of PageFlag

  bool is(PageFlag flag) const { return (flags & static_cast<std::uint32_t>(flag)) != 0; }
  std::uint64_t end() const { return vaddr + pages * 4096; }
  bool operator==(const PageRun&) const = default;
};

class PagemapWriter {
 public:
  // A run that crosses `cut` is written as two.
  explicit PagemapWriter(std::uint32_t pages_id, std::uint64_t cut = 0);

  // Ascending. A run that continues the last one with the same flags is joined with it.
  void add(std::uint64_t vaddr, std::uint64_t pages, PageFlag flag);
  void add(const PageRun& run);
  void end_run() { write_pending(); }  // what continues it is written as a run of its own

  std::size_t size() const { return bytes_.size(); }  // of what take() would return
  std::string take();    // those bytes of the file that can no longer change, without those taken before
  std::string finish();  // all (other) bytes of the file

 private:
  void write_pending();

  std::string bytes_;
  std::uint64_t cut_;
  PageRun pending_;
};

struct Pagemap {
  std::uint32_t pages_id = 0;
  std::vector<PageRun> runs;
  std::vector<std::uint64_t> record_at;  // offsets of the records of the runs, for messages
  std::uint64_t bytes_present = 0;       // how long pages-N.img has to be
};

Pagemap read_pagemap(const std::string& name, std::string_view bytes);

}  // namespace godwit::image
