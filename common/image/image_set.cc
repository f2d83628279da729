#include "common/image/image_set.h"

#include "common/base/directory.h"
#include "common/base/fd.h"

#include <algorithm>

#include <sys/stat.h>

namespace godwit::image {
namespace {

// Far more than any real set; a bound against a hostile directory.
constexpr std::size_t max_set = 1u << 30;

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         std::ranges::all_of(name, [](char c) { return c > ' ' && c <= '~' && c != '/'; });
}

bool is_loaded(std::string_view name) {
  if (const auto image = parse_file_name(name)) return image->kind != Kind::pages;
  return name.ends_with(".img");
}

void save_file(int dirfd, const std::string& name, const std::string& bytes, Storage storage) {
  UniqueFd fd = open_beneath(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  {
    Doing doing("write {}", name);
    write_all(fd.get(), bytes);
  }
  if (storage == Storage::durable) sync_file(fd.get(), name);
  close_written(std::move(fd), name);
}

}  // namespace

void ImageSet::put(Kind kind, std::uint64_t id, const Message& message) {
  std::string bytes = header(kind);
  append_record(bytes, message);
  put_file(file_name(kind, id), std::move(bytes));
}

void ImageSet::append(Kind kind, std::uint64_t id, const Message& message, std::string_view payload) {
  std::string record;
  append_record(record, message);
  views_.reset();
  std::string& bytes = files_[file_name(kind, id)];
  if (bytes.empty()) bytes = header(kind);
  bytes.append(record).append(payload);
}

const std::string* ImageSet::find(Kind kind, std::uint64_t id) const {
  const auto found = files_.find(file_name(kind, id));
  return found == files_.end() ? nullptr : &found->second;
}

RecordReader ImageSet::open(Kind kind, std::uint64_t id) const {
  const std::string* bytes = find(kind, id);
  if (bytes == nullptr) fail(Errc::image_corrupt, "{} is missing", file_name(kind, id));
  return RecordReader(kind, file_name(kind, id), *bytes);
}

void ImageSet::read_only_record(RecordReader& reader, Message& message) {
  if (!reader.next(message)) reader.corrupt("no record");
  if (!reader.rest().empty()) reader.corrupt("more than one record");
}

void ImageSet::put_file(std::string name, std::string bytes) {
  if (!is_plain_name(name)) fail(Errc::image_corrupt, "\"{}\" is no name of an image file", name.substr(0, 80));
  views_.reset();
  files_.insert_or_assign(std::move(name), std::move(bytes));
}

std::size_t ImageSet::size_in_bytes() const {
  std::size_t sum = 0;
  for (const auto& [name, bytes] : files_) sum += name.size() + bytes.size();
  return sum;
}

std::vector<std::uint64_t> ImageSet::ids(Kind kind) const {
  std::vector<std::uint64_t> found;
  for (const auto& [name, bytes] : files_)
    if (const auto image = parse_file_name(name); image && image->kind == kind) found.push_back(image->id);
  std::ranges::sort(found);
  return found;
}

ImageSet ImageSet::load(int dirfd) {
  ImageSet set;
  std::size_t left = max_set;
  for (const std::string& name : names_in(dirfd)) {
    if (!is_loaded(name)) continue;
    // A fifo must not block the open, and nothing but a file is an image.
    const UniqueFd fd = open_beneath(dirfd, name, O_RDONLY | O_NONBLOCK);
    Doing doing("read {}", name);
    struct stat st{};
    check(::fstat(fd.get(), &st), "fstat");
    if (!S_ISREG(st.st_mode)) fail(Errc::image_corrupt, "not a regular file");
    std::string bytes = read_all(fd.get(), left);
    left -= bytes.size();
    bytes.shrink_to_fit();  // a tree has hundreds of images, each read with room for many times what it holds
    set.put_file(name, std::move(bytes));
  }
  return set;
}

void ImageSet::save(int dirfd, Storage storage) const {
  const std::string last = file_name(Kind::inventory);
  for (const auto& [name, bytes] : files_)
    if (name != last) save_file(dirfd, name, bytes, storage);
  if (const auto inventory = files_.find(last); inventory != files_.end())
    save_file(dirfd, last, inventory->second, storage);
  if (storage == Storage::durable) sync_directory_and_its_name(dirfd, "the images directory");
}

}  // namespace godwit::image
