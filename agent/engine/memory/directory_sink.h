// A dump into an images directory: one round, pages into pages-N.img, state images collected and saved in the end.
#pragma once

#include "agent/engine/memory/page_sink.h"
#include "common/base/fd.h"
#include "common/image/image_set.h"
#include "common/image/pagemap.h"

#include <map>
#include <vector>

namespace godwit::engine {

class DirectorySink : public PageSink {
 public:
  explicit DirectorySink(int directory);  // borrowed

  std::span<std::byte> buffer() override { return buffer_; }
  std::uint64_t pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;
  std::uint64_t zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;
  std::uint64_t drop(pagewire::ObjectId, std::span<const pagewire::Run>) override { return 0; }  // was never written
  std::uint64_t file(std::string_view name, std::string_view content) override;
  std::uint64_t end_round() override { return 0; }
  void set_round(std::uint32_t) override {}
  std::uint64_t last_sequence() const override { return 0; }

  // Writes the pagemaps and every state image; inventory.img last.
  void save();

 private:
  struct Object {
    std::uint32_t pages_id = 0;
    UniqueFd pages;
    std::uint64_t length = 0;
    struct Place {
      pagewire::Run run;
      std::uint64_t offset;
    };
    std::vector<Place> places;
  };
  Object& object(pagewire::ObjectId id);
  void append(Object& object, std::span<const pagewire::Run> runs, std::span<const std::byte> data);
  void sort_pages(Object& object);

  int directory_;
  std::vector<std::byte> buffer_;
  std::map<pagewire::ObjectId, Object> objects_;
  image::ImageSet images_;
};

}  // namespace godwit::engine
