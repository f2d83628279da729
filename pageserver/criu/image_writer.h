// Writes what a session brings into an images directory: pagemap-*.img and pages-*.img.
//
//   ImageWriter images(dirfd, {.auto_dedup = true});
//   bool has_parent = images.open(object);
//   images.begin(header);          // a run; checks order and holes
//   images.append(bytes);          // its pages, if it has any
//   images.finish();               // every byte is stored, the set is usable
//
// Until finish() the directory is marked as unfinished (common/image/unfinished.h) and its pagemaps have names that
// nobody reads. What an earlier session left unfinished here is removed first; what one finished is never overwritten.
//
// Errors: Errc::protocol for runs that cannot be, Errc::already_exists, Errc::no_space. After one, the set stays
// marked.
#pragma once

#include "common/base/fd.h"
#include "common/image/parent_pages.h"
#include "common/image/unfinished.h"
#include "common/pagewire/criu.h"
#include "pageserver/store/appender.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace godwit::pageserver::criu {

struct WriterOptions {
  bool auto_dedup = false;  // what is written is punched out of the parents
};

struct Written {
  std::uint64_t objects = 0, present_pages = 0, parent_pages = 0, freed_bytes = 0;
};

class ImageWriter {
 public:
  ImageWriter(int directory, WriterOptions options);  // borrowed

  // Whether the parent images have this object.
  bool parent_has(pagewire::ObjectId object) const;
  // Closes the object that was open, and opens this one. Answers as parent_has().
  bool open(pagewire::ObjectId object);
  // A run of the open object, behind all before it.
  void begin(const pagewire::criu::Header& run);
  // Pages of the runs that were begun, in order; whoever calls this counts. Another thread may do so while further runs
  // of the same object are begun.
  void append(std::span<const Piece> pages);
  void finish();

  const Written& written() const { return written_; }
  // The directories of parents that have lost pages to this session.
  std::set<std::string> freed_in();

 private:
  struct Open {
    pagewire::ObjectId object = 0;
    std::optional<image::ParentPages> parent;
    UniqueFd pagemap;
    std::unique_ptr<Appender> pages;
    image::PagemapWriter writer;
    std::uint64_t end = 0;     // of the last run
    std::uint64_t length = 0;  // of the pages file, with what is announced
    std::uint64_t pagemap_bytes = 0;
  };
  UniqueFd make(const std::string& name);
  std::unique_ptr<Appender> make_pages(std::uint32_t& id);
  void write_pagemap(std::string_view bytes);
  void close();

  int directory_;
  WriterOptions options_;
  image::Unfinished unfinished_;
  std::optional<Open> open_;
  std::set<pagewire::ObjectId> known_;
  std::set<std::string> freed_in_;  // of the objects before the open one
  std::uint32_t next_pages_id_;
  Written written_;
};

}  // namespace godwit::pageserver::criu
