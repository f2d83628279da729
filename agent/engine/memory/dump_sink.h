// A sink that a dump is complete in: pages somewhere, state images and pagemaps collected until save().
#pragma once

#include "agent/engine/memory/page_set.h"
#include "agent/engine/memory/page_sink.h"
#include "common/base/error.h"
#include "common/base/storage.h"
#include "common/image/image_set.h"

#include <map>
#include <set>
#include <string>

namespace godwit::engine {

// What a set of images has to have of each object: pages that it carries itself, and pages that its parent has.
using HeldPages = std::map<pagewire::ObjectId, const PageSet*>;

class DumpSink : public PageSink {
 public:
  std::uint64_t zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) final;

  // The state images so far.
  virtual image::ImageSet& images() = 0;

  // Writes what is not yet written, inventory.img last. Pages of `held` that this sink was not given are marked as the
  // parent's.
  //
  // A sink may keep a failure of pages() or drop() until here: a scan, which consumes what it reports, then
  // comes to its end, and what it found can be owed.
  virtual void save(const HeldPages& held, Storage storage) = 0;

  // Closes the files of pages, which save() leaves open: on NFS it is now that they are written, and who is stopped
  // need not wait for that. When it fails, there is no dump.
  virtual void close() {}

  // The directories of sets before this one that have lost pages to it, and will not lose more.
  virtual std::set<std::string> freed_in() { return {}; }
};

inline std::uint64_t DumpSink::zero(pagewire::ObjectId object, std::span<const pagewire::Run>) {
  fail(Errc::internal, "zero pages of object {:#x} for a set of images", object);
}

}  // namespace godwit::engine
