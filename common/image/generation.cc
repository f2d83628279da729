#include "common/image/generation.h"

#include "common/base/directory.h"
#include "common/base/fd.h"
#include "common/image/inventory.pb.h"
#include "common/image/page_levels.h"
#include "common/image/record.h"
#include "common/image/unfinished.h"

#include <algorithm>
#include <set>
#include <vector>

#include <sys/stat.h>

namespace godwit::image {
namespace {

constexpr std::size_t largest_inventory = 1u << 20;
// PIDs end at 2^22, and CRIU has kept numbers of objects in an int.
constexpr std::uint64_t first_tag = 1u << 30, end_of_tags = 1u << 31;

std::vector<std::uint64_t> tags_in(int dirfd) {
  std::vector<std::uint64_t> tags;
  for (const std::string& name : names_in(dirfd)) {
    const auto image = parse_file_name(name);
    if (image && image->kind == Kind::pagemap && image->id >= first_tag && image->id < end_of_tags)
      tags.push_back(image->id);
  }
  return tags;
}

std::string path_of(int dirfd) { return read_link(fmt::format("/proc/self/fd/{}", dirfd)); }

std::pair<dev_t, ino_t> place_of(int dirfd) {
  struct stat st{};
  check(::fstat(dirfd, &st), "stat a directory of images");
  return {st.st_dev, st.st_ino};
}

// Whether the directory holds the dump of this name, as far as it says.
bool holds(const std::string& generation, const std::optional<Generation>& said,
           const std::vector<std::uint64_t>& tags) {
  if (said && !said->own.empty() && said->own != generation) return false;
  if (!tags.empty()) return std::ranges::find(tags, tag_of(generation)) != tags.end();
  return said.has_value();  // else nobody has finished it
}

}  // namespace

std::optional<Generation> generation_of(int dirfd) {
  const std::string name = file_name(Kind::inventory);
  const int raw = ::openat(dirfd, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (raw < 0 && errno == ENOENT) return std::nullopt;
  const UniqueFd fd(check(raw, "open {}", name));
  const std::string bytes = read_all(fd.get(), largest_inventory);
  RecordReader reader(Kind::inventory, name, bytes);
  InventoryEntry inventory;
  if (!reader.next(inventory)) return Generation{};
  return Generation{.own = inventory.generation(), .parent = inventory.parent_generation()};
}

std::uint64_t tag_of(std::string_view generation) {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const unsigned char c : generation) hash = (hash ^ c) * 0x100000001b3;
  return first_tag + (hash >> 34);
}

void refuse_unfinished(int dirfd) {
  Unfinished::refuse(dirfd);
  if (!generation_of(dirfd) && tags_in(dirfd).empty())
    throw Error(Errc::image_corrupt,
                fmt::format("inventory.img is missing in {}: the dump did not finish", path_of(dirfd)),
                "dump again; beside the pages of a page server, copy the rest of the dump first");
}

void refuse_other_pages(int dirfd) {
  std::string below, expected;  // the directory that has led here, and what it expects; empty: nothing
  std::set<std::pair<dev_t, ino_t>> seen;
  for (UniqueFd at = open_at(dirfd, ".", O_RDONLY | O_DIRECTORY); at && seen.insert(place_of(at.get())).second;) {
    const std::string path = path_of(at.get());
    Doing doing("{}", path);
    const std::optional<Generation> said = generation_of(at.get());
    const std::vector<std::uint64_t> tags = tags_in(at.get());
    if (!expected.empty() && !holds(expected, said, tags))
      throw Error(
          Errc::refused,
          fmt::format("this is not the dump any more that {} was dumped on top of, and takes pages from", below),
          "bring back what was here then, or use a dump that does not rest on it");
    if (said && !said->own.empty() && !holds(said->own, said, tags))
      throw Error(Errc::refused, "the pages here, which a page server has stored, are of another dump than the rest",
                  "copy the rest of each dump beside its own pages");
    if (said && !said->own.empty() && said->parent.empty()) return;  // it has all of its pages itself
    expected = said ? said->parent : "";
    below = path;
    at = UniqueFd(::openat(at.get(), parent_link, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
}

}  // namespace godwit::image
