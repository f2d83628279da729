#include "agent/engine/memory/page_stretches.h"

#include "common/base/units.h"
#include "common/image/pagemap.h"
#include "common/image/test_dir.h"

#include <gtest/gtest.h>

#include <sys/stat.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t id = 12;
constexpr auto present = static_cast<std::uint32_t>(image::PageFlag::present);
constexpr auto parent = static_cast<std::uint32_t>(image::PageFlag::parent);

UniqueFd make(const image::TestDir& top, const std::string& name, const std::vector<image::PageRun>& runs) {
  std::filesystem::create_directory(top.path() + "/" + name);
  UniqueFd dir = open_at(top.fd(), name, O_RDONLY | O_DIRECTORY);
  image::PagemapWriter writer(1);
  std::uint64_t bytes = 0;
  for (const image::PageRun& run : runs) {
    writer.add(run);
    if (run.is(image::PageFlag::present)) bytes += run.pages * page_size;
  }
  write_file(top.path() + "/" + name + "/" + image::file_name(image::Kind::pagemap, id), writer.finish());
  write_file(top.path() + "/" + name + "/" + image::file_name(image::Kind::pages, 1), std::string(bytes, 'x'));
  return dir;
}

// Address and pages of each part, a `|` behind each stretch.
std::string stretches_of(const UniqueFd& dir) {
  image::PageReader reader(dir.get(), image::Kind::pagemap, id);
  PageStretches stretches(reader);
  std::string text;
  for (auto parts = stretches.next(); !parts.empty(); parts = stretches.next()) {
    for (const image::PageSource& part : parts) text += fmt::format("{:x}+{} ", part.vaddr, part.pages);
    text += "| ";
  }
  return text;
}

TEST(PageStretches, are_runs_that_follow_each_other_in_a_file) {
  const image::TestDir top;
  make(top, "a", {{0x10000, 8, present}});
  const UniqueFd b =
      make(top, "b", {{0x10000, 1, present}, {0x12000, 3, parent}, {0x16000, 2, present}, {0x20000, 1, present}});
  image::set_parent(b.get(), "../a");
  EXPECT_EQ(stretches_of(b), "10000+1 | 12000+3 | 16000+2 20000+1 | ");
}

TEST(PageStretches, are_no_longer_than_what_is_mapped_at_once) {
  const image::TestDir top;
  const UniqueFd a = make(top, "a", {{0x10000, 1, present}, {0x1000000, 2000, present}, {0x3000000, 1, present}});
  EXPECT_EQ(stretches_of(a), "10000+1 1000000+1023 | 13ff000+977 3000000+1 | ");
}

}  // namespace
}  // namespace godwit::engine
