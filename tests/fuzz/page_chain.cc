// Directories of images that are each other's parents, as anybody may have left them: read, asked for what they have
// and freed of what is superseded. For each directory one byte says which one its parent is, one how many pages its
// pages file has, and two how long the pagemap is that follows.
#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/units.h"
#include "common/image/dedup.h"
#include "common/image/image_set.h"
#include "common/image/inventory.pb.h"
#include "common/image/page_reader.h"
#include "common/image/parent_pages.h"
#include "common/image/record.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch_directory.h"

#include <array>

#include <sys/stat.h>

namespace godwit {

using namespace image;

namespace {

constexpr std::uint64_t id = 7;
constexpr unsigned directories = 4;
constexpr std::size_t most_pages = 8;

void make(const std::filesystem::path& path, unsigned parent, std::size_t pages, std::string_view pagemap) {
  std::filesystem::create_directory(path);
  const int dir = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const UniqueFd owned(dir);
  if (parent < directories) set_parent(dir, "../" + std::to_string(parent));
  write_file(path / file_name(Kind::pagemap, id), header(Kind::pagemap).append(pagemap));
  InventoryEntry inventory;
  inventory.set_img_version(image_version);
  ImageSet rest;
  rest.put(Kind::inventory, 0, inventory);
  rest.save(dir);
  write_file(path / file_name(Kind::pages, 1), std::string(pages * page_size, static_cast<char>('a' + pages)));
}

// The runs are ascending, and their bytes are in the files that they name.
std::uint64_t read_through(int dir) {
  PageReader reader(dir, Kind::pagemap, id);
  std::uint64_t end = 0, pages = 0;
  while (const auto source = reader.next()) {
    require(source->pages > 0 && source->vaddr >= end);
    end = source->vaddr + source->pages * page_size;
    pages += source->pages;
    struct stat st{};
    check(::fstat(source->fd, &st), "fstat");
    require(source->offset >= 0 && source->offset % static_cast<off_t>(page_size) == 0);
    require(source->offset + static_cast<off_t>(source->pages * page_size) <= st.st_size);
    std::byte last{};
    pread_exact(source->fd, std::span(&last, 1), source->offset + static_cast<off_t>(source->pages * page_size - 1));
    require(last != std::byte{0});  // no page that has been freed is handed out
  }
  return pages;
}

void look_at_parents(int dir, const Pagemap& map) {
  auto parents = ParentPages::of(dir, Kind::pagemap, id, PagesAccess::punch);
  if (!parents) return;
  for (const PageRun& run : map.runs) {
    const auto missing = parents->first_missing(run.vaddr, run.pages);
    require(!missing || (run.vaddr <= *missing && *missing < run.end()));
  }
}

}  // namespace

void fuzz(std::string_view input) {
  static const ScratchDirectory top;
  top.emptied();
  for (unsigned i = 0; i < directories; i++) {
    const std::string_view head = input.substr(0, 4);
    const auto byte = [head](std::size_t at) { return at < head.size() ? static_cast<unsigned char>(head[at]) : 0u; };
    const std::size_t length = byte(2) | byte(3) << 8;
    input.remove_prefix(head.size());
    // Nobody's parent by itself: the byte 0 says none.
    make(top.path() / std::to_string(i), byte(0) ? byte(0) - 1 : directories, byte(1) % (most_pages + 1),
         input.substr(0, length));
    input.remove_prefix(std::min(length, input.size()));
  }
  const UniqueFd first = open_file(top.path() / "0", O_RDONLY | O_DIRECTORY);
  std::uint64_t pages = 0;
  bool whole = false;
  try {
    pages = read_through(first.get());
    whole = true;
  } catch (const Error& e) {
    require(e.errc() == Errc::image_corrupt);
  }
  look_at_parents(first.get(), read_pagemap("the first", read_file(top.path() / "0" / file_name(Kind::pagemap, id))));
  dedup(first.get());
  // What the parents were freed of, the children have.
  if (whole) require(read_through(first.get()) == pages);
}

}  // namespace godwit
