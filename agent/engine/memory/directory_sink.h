// A dump into an images directory: one round, pages into pages-N.img, state images collected and saved in the end.
//
// With Superseded::freed the pages that the set's parents have of what is written are punched out of their files as it
// is written, so that all of them together stay near one copy. The parents are then of no use by themselves, also when
// the dump fails.
//
// Frames are numbered from 1, so that what was emitted can be owed until the set is complete. The first failure to
// write is kept for save().
#pragma once

#include "agent/engine/memory/background_writer.h"
#include "agent/engine/memory/dump_sink.h"
#include "agent/engine/memory/page_plan.h"
#include "common/base/page_file.h"
#include "common/image/image_set.h"
#include "common/image/pagemap.h"
#include "common/image/parent_pages.h"

#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace godwit::engine {

image::Kind kind_of(pagewire::ObjectId object);  // of its pagemap

enum class Superseded { kept = 1, freed };

class DirectorySink : public DumpSink {
 public:
  explicit DirectorySink(int directory, Superseded superseded = Superseded::kept);  // borrowed

  std::span<std::byte> buffer() override { return writer_.buffer(); }
  std::uint64_t pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;
  std::uint64_t drop(pagewire::ObjectId, std::span<const pagewire::Run>) override { return ++sequence_; }
  std::uint64_t file(std::string_view name, std::string_view content) override;
  std::uint64_t end_round() override { return ++sequence_; }
  void set_round(std::uint32_t) override {}
  std::uint64_t last_sequence() const override { return sequence_; }

  image::ImageSet& images() override { return images_; }
  void save(const HeldPages& held, Storage storage) override;
  void close() override;
  std::set<std::string> freed_in() override;

 private:
  struct Object {
    std::uint32_t pages_id = 0;
    std::unique_ptr<PageFile> pages;            // until it is closed
    std::optional<image::ParentPages> parents;  // under punching_
    std::uint64_t length = 0;
    std::vector<Place> places;
  };
  Object& object(pagewire::ObjectId id);
  void write(Object& object, std::span<const pagewire::Run> runs);
  void take_places(Object& object, std::span<const pagewire::Run> runs);
  void sort_pages(Object& object);
  static void copy_places(const Object& object, const UniqueFd& into, const std::string& name);
  void write_pagemap(pagewire::ObjectId id, const PageSet& held, std::uint64_t cut);
  void remove_unheld(const HeldPages& held);

  int directory_;
  Superseded superseded_;
  std::mutex punching_;
  std::uint64_t sequence_ = 0;
  std::exception_ptr failure_;
  std::map<pagewire::ObjectId, Object> objects_;
  image::ImageSet images_;
  BackgroundWriter writer_;  // last: its threads end before the files are closed
};

}  // namespace godwit::engine
