#include "pageserver/criu/image_writer.h"

#include "common/base/storage.h"

#include <algorithm>
#include <array>

namespace godwit::pageserver::criu {
namespace {

using pagewire::ObjectId;
using pagewire::criu::Header;

// CRIU's page servers count from here, so that their files never meet those of a dump into the same directory.
constexpr std::uint32_t first_pages_id = 0x10001;

// Against sessions that only mean to fill the disk with names: no tree has so many tasks and segments, and no reader
// takes a larger pagemap.
constexpr std::size_t max_objects = 1u << 16;
constexpr std::uint64_t max_pagemap = 1u << 30;
constexpr std::size_t pagemap_buffer = 64u << 10;

image::Kind kind_of(ObjectId object) {
  return pagewire::object_type(object) == pagewire::ObjectType::task ? image::Kind::pagemap
                                                                     : image::Kind::pagemap_shmem;
}

std::string pagemap_name(ObjectId object) { return image::file_name(kind_of(object), pagewire::object_number(object)); }

bool exists(int directory, const std::string& name) {
  return ::faccessat(directory, name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

}  // namespace

ImageWriter::ImageWriter(int directory, WriterOptions options)
    : directory_(directory), options_(options), unfinished_(directory), next_pages_id_(first_pages_id) {}

UniqueFd ImageWriter::make(const std::string& name) {
  unfinished_.add(name);
  return open_beneath(directory_, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
}

// The first number that is free: another session may have written into this directory.
std::unique_ptr<Appender> ImageWriter::make_pages(std::uint32_t& id) {
  while (exists(directory_, image::file_name(image::Kind::pages, next_pages_id_))) next_pages_id_++;
  id = next_pages_id_++;
  const std::string name = image::file_name(image::Kind::pages, id);
  unfinished_.add(name);
  return create_appender(directory_, name);
}

bool ImageWriter::parent_has(ObjectId object) const {
  return image::ParentPages::of(directory_, kind_of(object), pagewire::object_number(object), image::PagesAccess::read)
      .has_value();
}

bool ImageWriter::open(ObjectId object) {
  close();
  const std::string name = pagemap_name(object);
  Doing doing("opening {}", name);
  if (known_.size() == max_objects) fail(Errc::protocol, "more than {} objects in one session", max_objects);
  if (!known_.insert(object).second) fail(Errc::protocol, "opened twice in one session");
  if (exists(directory_, name))
    throw Error(Errc::already_exists, "the images directory has it already", "use an empty directory for each dump");
  const auto access = options_.auto_dedup ? image::PagesAccess::punch : image::PagesAccess::read;
  auto parent = image::ParentPages::of(directory_, kind_of(object), pagewire::object_number(object), access);
  std::uint32_t id = 0;
  std::unique_ptr<Appender> pages = make_pages(id);
  UniqueFd pagemap = make(image::Unfinished::part_name(name));
  open_.emplace(Open{.object = object,
                     .parent = std::move(parent),
                     .pagemap = std::move(pagemap),
                     .pages = std::move(pages),
                     .writer = image::PagemapWriter(id)});
  written_.objects++;
  return open_->parent.has_value();
}

void ImageWriter::begin(const Header& run) {
  if (!open_ || run.object != open_->object)
    fail(Errc::protocol, "a run of {}, which is not open", pagemap_name(run.object));
  Open& o = *open_;
  if (run.address < o.end) fail(Errc::protocol, "the run at {:#x} overlaps or precedes the one before", run.address);
  o.end = run.address + run.pages * page_size;
  if ((run.flags & pagewire::criu::run_parent) != 0) {
    if (!o.parent) fail(Errc::protocol, "a hole at {:#x}, but {} has no parent", run.address, pagemap_name(o.object));
    if (const auto missing = o.parent->first_missing(run.address, run.pages))
      fail(Errc::protocol, "a hole over {:#x}, which no parent of {} has", *missing, pagemap_name(o.object));
    written_.parent_pages += run.pages;
  }
  if (run.has_payload()) {
    if (run.payload_bytes() > static_cast<std::uint64_t>(INT64_MAX) - o.length)
      fail(Errc::protocol, "more pages than a file can hold");
    o.length += run.payload_bytes();
    written_.present_pages += run.pages;
    if (options_.auto_dedup && o.parent) written_.freed_bytes += o.parent->punch(run.address, run.pages);
  }
  // Where the client has cut shared memory, a CRIU that restores it must see it.
  if (pagewire::object_type(o.object) == pagewire::ObjectType::shmem) o.writer.end_run();
  o.writer.add(image::PageRun{.vaddr = run.address, .pages = run.pages, .flags = run.flags});
  if (o.writer.size() >= pagemap_buffer) write_pagemap(o.writer.take());
}

void ImageWriter::append(std::span<const Piece> pages) { open_->pages->append(pages); }

void ImageWriter::write_pagemap(std::string_view bytes) {
  open_->pagemap_bytes += bytes.size();
  if (open_->pagemap_bytes > max_pagemap) fail(Errc::protocol, "a pagemap of more than {} bytes", max_pagemap);
  write_all(open_->pagemap.get(), bytes);
}

// Errors of delayed writes come out here, before anybody is told that the pages are stored.
void ImageWriter::close() {
  if (!open_) return;
  Doing doing("storing {}", pagemap_name(open_->object));
  write_pagemap(open_->writer.finish());
  open_->pages->sync();
  check(::fsync(open_->pagemap.get()), "sync the pagemap");
  freed_in_ = freed_in();
  open_.reset();
}

std::set<std::string> ImageWriter::freed_in() {
  std::set<std::string> directories = freed_in_;
  if (open_ && open_->parent) directories.merge(open_->parent->freed_in());
  return directories;
}

void ImageWriter::finish() {
  close();
  for (const ObjectId object : known_) {
    const std::string name = pagemap_name(object);
    check(::renameat(directory_, image::Unfinished::part_name(name).c_str(), directory_, name.c_str()), "name {}",
          name);
  }
  unfinished_.finish();
  sync_directory(directory_, "the images directory");
}

}  // namespace godwit::pageserver::criu
