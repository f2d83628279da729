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
// PIDs end at 2^22, and CRIU has kept numbers of objects in an int: one half of what is left for the dump itself, the
// other one for its parent.
constexpr std::uint64_t first_tag = 1u << 30, tags_of_a_kind = 1u << 29;

struct Tags {
  std::vector<std::uint64_t> own, parents;
};

Tags tags_in(int dirfd) {
  Tags tags;
  for (const std::string& name : names_in(dirfd)) {
    const auto image = parse_file_name(name);
    if (!image || image->kind != Kind::pagemap || image->id < first_tag) continue;
    if (image->id < first_tag + tags_of_a_kind)
      tags.own.push_back(image->id);
    else if (image->id < first_tag + 2 * tags_of_a_kind)
      tags.parents.push_back(image->id - tags_of_a_kind);
  }
  return tags;
}

std::string path_of(int dirfd) { return read_link(fmt::format("/proc/self/fd/{}", dirfd)); }

std::pair<dev_t, ino_t> place_of(int dirfd) {
  struct stat st{};
  check(::fstat(dirfd, &st), "stat a directory of images");
  return {st.st_dev, st.st_ino};
}

bool any_is(const std::vector<std::uint64_t>& tags, std::uint64_t tag) {
  return std::ranges::find(tags, tag) != tags.end();
}

// Whether the directory holds the dump of this tag, as far as it says.
bool holds(std::uint64_t tag, const std::optional<Generation>& said, const std::vector<std::uint64_t>& tags) {
  if (said && !said->own.empty() && tag_of(said->own) != tag) return false;
  if (!tags.empty()) return any_is(tags, tag);
  return said.has_value();  // else nobody has finished it
}

// The tag of what this directory was dumped on top of. 0: not said.
std::uint64_t parent_tag_in(const std::optional<Generation>& said, const Tags& tags) {
  if (said && !said->parent.empty()) return tag_of(said->parent);
  return !said && tags.parents.size() == 1 ? tags.parents.front() : 0;
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
  return first_tag + (hash >> 35);
}

std::uint64_t parent_tag_of(std::string_view generation) { return tag_of(generation) + tags_of_a_kind; }

void refuse_unfinished(int dirfd) {
  Unfinished::refuse(dirfd);
  if (!generation_of(dirfd) && tags_in(dirfd).own.empty())
    throw Error(Errc::image_corrupt,
                fmt::format("inventory.img is missing in {}: the dump did not finish", path_of(dirfd)),
                "dump again; beside the pages of a page server, copy the rest of the dump first");
}

void refuse_other_pages(int dirfd) {
  std::string below;           // the directory that has led here
  std::uint64_t expected = 0;  // the tag of what that was dumped on top of; 0: not said
  std::set<std::pair<dev_t, ino_t>> seen;
  for (UniqueFd at = open_at(dirfd, ".", O_RDONLY | O_DIRECTORY); at && seen.insert(place_of(at.get())).second;) {
    const std::string path = path_of(at.get());
    Doing doing("{}", path);
    const std::optional<Generation> said = generation_of(at.get());
    const Tags tags = tags_in(at.get());
    if (expected && !holds(expected, said, tags.own))
      throw Error(
          Errc::refused,
          fmt::format("this is not the dump any more that {} was dumped on top of, and takes pages from", below),
          "bring back what was here then, or use a dump that does not rest on it");
    if (said && !said->own.empty() && !holds(tag_of(said->own), said, tags.own))
      throw Error(Errc::refused, "the pages here, which a page server has stored, are of another dump than the rest",
                  "copy the rest of each dump beside its own pages");
    if (said && !said->own.empty() && said->parent.empty()) return;  // it has all of its pages itself
    expected = parent_tag_in(said, tags);
    below = path;
    const int parent = ::openat(at.get(), parent_link, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0 && errno != ENOENT && errno != ENOTDIR) check(parent, "open the parent of {}", path);
    at.reset(parent);
  }
}

}  // namespace godwit::image
