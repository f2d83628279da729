// A whole session of CRIU's page-server protocol, from the first byte to the images: whatever a client says, the set is
// either marked as unfinished or complete, with every page that was sent. The first byte says how the bytes arrive.
#include "common/base/error.h"
#include "common/image/page_reader.h"
#include "pageserver/criu/session.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/said_stream.h"
#include "tests/fuzz/scratch_directory.h"

#include <algorithm>
#include <filesystem>
#include <string>

namespace godwit {

using namespace pageserver::criu;

namespace {

std::uint64_t pages_in(const ScratchDirectory& directory, int fd) {
  std::uint64_t pages = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    const auto name = image::parse_file_name(entry.path().filename().string());
    require(name.has_value());
    if (name->kind == image::Kind::pages) continue;
    image::PageReader reader(fd, name->kind, name->id);
    while (const auto source = reader.next()) pages += source->pages;
  }
  return pages;
}

}  // namespace

void fuzz(std::string_view input) {
  static const ScratchDirectory directory;
  if (input.empty()) return;
  const int fd = directory.emptied();
  SaidStream stream(input.substr(1), 1 + static_cast<unsigned char>(input[0]) * std::size_t{16});
  std::uint64_t stored = 0;
  try {
    ImageWriter images(fd, {});
    Session(stream, images).run();
    stored = images.written().present_pages;
  } catch (const Error&) {
    require(std::filesystem::exists(directory.path() / "unfinished"));
    for (const auto& entry : std::filesystem::directory_iterator(directory.path()))
      require(!entry.path().filename().string().starts_with("pagemap") || entry.path().extension() == ".part");
    return;
  }
  image::Unfinished::refuse(fd);
  require(pages_in(directory, fd) == stored);
}

}  // namespace godwit
