// A whole session of CRIU's page-server protocol, from the first byte to the images: whatever a client says, the set is
// either marked as unfinished or complete, with every page that was sent. The first byte says how the bytes arrive.
#include "common/base/error.h"
#include "common/image/page_reader.h"
#include "pageserver/criu/session.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <filesystem>
#include <string>

namespace godwit {

using namespace pageserver::criu;

namespace {

class Said : public Stream {
 public:
  Said(std::string_view bytes, std::size_t piece) : bytes_(std::as_bytes(std::span(bytes))), piece_(piece) {}

  std::size_t receive(std::span<std::byte> into, net::Deadline) override {
    const auto part = bytes_.first(std::min({bytes_.size(), into.size(), piece_}));
    std::ranges::copy(part, into.begin());
    bytes_ = bytes_.subspan(part.size());
    return part.size();
  }
  void send(std::span<const std::byte> data, net::Deadline) override { require(!data.empty()); }
  void part(net::Deadline) noexcept override {}

 private:
  std::span<const std::byte> bytes_;
  std::size_t piece_;
};

// Emptied, not made, for each input.
class Directory {
 public:
  Directory() {
    std::string path = "/dev/shm/godwit-fuzz-XXXXXX";
    if (!::mkdtemp(path.data())) std::abort();
    path_ = path;
    fd_ = open_file(path, O_RDONLY | O_DIRECTORY);
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  int emptied() const {
    for (const auto& entry : std::filesystem::directory_iterator(path_)) std::filesystem::remove(entry.path());
    return fd_.get();
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  UniqueFd fd_;
};

std::uint64_t pages_in(const Directory& directory, int fd) {
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
  static const Directory directory;
  if (input.empty()) return;
  const int fd = directory.emptied();
  Said stream(input.substr(1), 1 + static_cast<unsigned char>(input[0]) * std::size_t{16});
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
