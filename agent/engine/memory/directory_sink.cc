#include "agent/engine/memory/directory_sink.h"

#include "agent/engine/memory/mapped_ends.h"
#include "agent/engine/memory/task_memory.h"
#include "common/base/check.h"
#include "common/base/fault.h"

#include <algorithm>

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

namespace godwit::engine {

namespace {

// In memory every CPU can write, the one that reads too: two threads beside it, where there is a CPU for each. On a
// disk two would only be in each other's way.
std::size_t writers_for(int directory) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  const bool many = ::sched_getaffinity(0, sizeof cpus, &cpus) != 0 || CPU_COUNT(&cpus) > 2;
  return in_memory(directory) && many ? 2 : 1;
}

Caller caller_for(int directory) { return in_memory(directory) ? Caller::writes_too : Caller::only_fills; }

}  // namespace

image::Kind kind_of(pagewire::ObjectId id) {
  return pagewire::object_type(id) == pagewire::ObjectType::task ? image::Kind::pagemap : image::Kind::pagemap_shmem;
}

DirectorySink::DirectorySink(int directory, Superseded superseded)
    : directory_(directory),
      superseded_(superseded),
      writer_(pagewire::max_payload, writers_for(directory), caller_for(directory)) {}

DirectorySink::Object& DirectorySink::object(pagewire::ObjectId id) {
  Object& o = objects_[id];
  if (!o.pages) {
    o.pages_id = static_cast<std::uint32_t>(objects_.size());
    o.pages = std::make_unique<PageFile>(
        open_at(directory_, image::file_name(image::Kind::pages, o.pages_id), O_RDWR | O_CREAT | O_TRUNC, 0600));
    if (superseded_ == Superseded::freed)
      o.parents =
          image::ParentPages::of(directory_, kind_of(id), pagewire::object_number(id), image::PagesAccess::punch);
  }
  return o;
}

// Where the next pages of an object go.
void DirectorySink::take_places(Object& o, std::span<const pagewire::Run> runs) {
  for (const pagewire::Run& r : runs) {
    o.places.push_back({r, o.length});
    o.length += r.pages * page_size;
  }
}

// The writer's buffer holds the pages of `runs`.
void DirectorySink::write(Object& o, std::span<const pagewire::Run> runs) {
  BackgroundWriter::Then then;
  if (o.parents)
    then = [this, &o, written = std::vector(runs.begin(), runs.end())] {
      const std::lock_guard lock(punching_);
      for (const pagewire::Run& r : written) o.parents->punch(r.address, r.pages);
    };
  writer_.write(*o.pages, o.length, pagewire::pages_in(runs) * page_size, std::move(then));
  take_places(o, runs);
}

std::uint64_t DirectorySink::pages(pagewire::ObjectId id, std::span<const pagewire::Run> runs) {
  if (!failure_) try {
      write(object(id), runs);
    } catch (...) {
      failure_ = std::current_exception();
    }
  return ++sequence_;
}

std::uint64_t DirectorySink::file(std::string_view name, std::string_view content) {
  if (!name.starts_with(layout_prefix)) images_.put_file(std::string(name), std::string(content));
  return ++sequence_;
}

void DirectorySink::copy_places(const Object& o, const UniqueFd& into, const std::string& name) {
  off_t to = 0;
  for (const Place& p : o.places) {
    off_t from = static_cast<off_t>(p.offset);
    for (std::uint64_t left = p.run.pages * page_size; left > 0;) {
      const ssize_t n = check(::copy_file_range(o.pages->fd(), &from, into.get(), &to, left, 0), "sort {}", name);
      if (n == 0) fail(Errc::internal, "{} ended early", name);
      left -= static_cast<std::uint64_t>(n);
    }
  }
}

// Pages lie in the file in the order of the pagemap. They come nearly sorted: what a scan finds out later lies among
// what it has said, and a page may come twice, the later one is right.
void DirectorySink::sort_pages(Object& o) {
  if (is_in_order(o.places)) return;
  o.places = in_order(std::move(o.places));
  const std::string name = image::file_name(image::Kind::pages, o.pages_id);
  const std::string sorted = name + ".sorted";
  UniqueFd into;
  try {
    into = open_at(directory_, sorted, O_RDWR | O_CREAT | O_TRUNC, 0600);
    copy_places(o, into, name);
  } catch (...) {
    ::unlinkat(directory_, sorted.c_str(), 0);
    throw;
  }
  check(::renameat(directory_, sorted.c_str(), directory_, name.c_str()), "rename {}", sorted);
  o.pages = std::make_unique<PageFile>(std::move(into));
}

void DirectorySink::write_pagemap(pagewire::ObjectId id, const PageSet& held, std::uint64_t cut) {
  Object& o = object(id);
  o.pages->finish(o.length);
  sort_pages(o);
  image::PagemapWriter writer(o.pages_id, cut);
  std::uint64_t at = 0;  // what lies below is decided
  const auto inherit = [&](std::uint64_t end) {
    for (const pagewire::Run& r : held.runs(at, end)) writer.add(r.address, r.pages, image::PageFlag::parent);
    at = end;
  };
  for (const Place& p : o.places) {
    inherit(p.run.address);
    at = p.run.address + p.run.pages * page_size;
    writer.add(p.run.address, p.run.pages, image::PageFlag::present);
  }
  inherit(~0ull);
  images_.put_file(image::file_name(kind_of(id), pagewire::object_number(id)), writer.finish());
}

// Of a task that has ended since: nothing refers to its pages, and their file is longer than what was written.
void DirectorySink::remove_unheld(const HeldPages& held) {
  for (auto& [id, o] : objects_) {
    if (held.contains(id)) continue;
    const std::string name = image::file_name(image::Kind::pages, o.pages_id);
    check(::unlinkat(directory_, name.c_str(), 0), "remove {}", name);
    o.pages.reset();
  }
}

std::set<std::string> DirectorySink::freed_in() {
  try {
    writer_.finish();
  } catch (...) {
    if (!failure_) failure_ = std::current_exception();
  }
  std::set<std::string> directories;
  for (auto& [id, o] : objects_)
    if (o.parents) directories.merge(o.parents->freed_in());
  return directories;
}

void DirectorySink::save(const HeldPages& held, Storage storage) {
  if (failure_) std::rethrow_exception(failure_);
  writer_.finish();
  const MappedEnds ends(images_);
  for (const auto& [id, pages] : held) write_pagemap(id, *pages, ends.of(id));
  remove_unheld(held);
  if (storage == Storage::durable)
    for (const auto& [id, o] : objects_)
      if (o.pages) sync_file(o.pages->fd(), image::file_name(image::Kind::pages, o.pages_id));
  images_.save(directory_, storage);
}

void DirectorySink::close() {
  for (auto& [id, o] : objects_) {
    if (!o.pages) continue;
    UniqueFd file = o.pages->take();
    o.pages.reset();
    fault::point("engine.dump.close");
    close_written(std::move(file), image::file_name(image::Kind::pages, o.pages_id));
  }
}

}  // namespace godwit::engine
