#include "agent/engine/commands/places.h"

#include "common/image/page_levels.h"
#include "common/base/directory.h"
#include "common/base/log.h"
#include "common/image/image_set.h"
#include "common/image/unfinished.h"

#include <array>
#include <filesystem>

#include <sys/random.h>
#include <sys/stat.h>

namespace godwit::engine::commands {
namespace {

constexpr int most_parents = 4096;

struct stat status_of(int fd) {
  struct stat st{};
  check(::fstat(fd, &st), "stat a directory");
  return st;
}

bool same(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

// Overwriting what the dump before is made of would leave neither.
void refuse_own_ancestor(const Places& places) {
  const struct stat own = status_of(places.images.get());
  UniqueFd at(check(::fcntl(places.previous.get(), F_DUPFD_CLOEXEC, 0), "duplicate a descriptor"));
  for (int depth = 0; depth < most_parents; depth++) {
    if (same(status_of(at.get()), own))
      fail(Errc::invalid_argument, "{} is a parent of the dump that --prev-images-dir names", places.images_path);
    const int next = ::openat(at.get(), image::parent_link, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (next < 0) return;
    at.reset(next);
  }
  fail(Errc::image_corrupt, "--prev-images-dir: its parents lead in a circle");
}

void remove(const Places& places, const std::string& name) {
  if (::unlinkat(places.images.get(), name.c_str(), 0) != 0 && errno != ENOENT)
    check(-1, "remove {}/{}", places.images_path, name);
}

}  // namespace

void make_images_directory(const std::string& name) {
  const std::filesystem::path path(name);
  std::error_code ignored;  // mkdir says it better
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), ignored);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) check(-1, "make {}", name);
}

Places open_places(const Options& o, Missing missing) {
  Places places;
  if (missing == Missing::is_made) make_images_directory(o.images);
  places.images = open_file(o.images, O_RDONLY | O_DIRECTORY);
  places.images_path = read_link(fmt::format("/proc/self/fd/{}", places.images.get()));
  places.work = o.work.empty() ? open_at(places.images.get(), ".", O_RDONLY | O_DIRECTORY)
                               : open_file(o.work, O_RDONLY | O_DIRECTORY);
  if (!o.previous.empty()) {
    Doing doing("--prev-images-dir {} of {}", o.previous, places.images_path);
    places.previous = open_at(places.images.get(), o.previous, O_RDONLY | O_DIRECTORY);
    refuse_own_ancestor(places);
  }
  return places;
}

void clear_images(const Places& places, PagesGo to) {
  if (to == PagesGo::here)
    image::Unfinished(places.images.get()).finish();  // busy, when a page server is writing here
  else
    image::Unfinished::remove_left(places.images.get());  // it may be this dump's own server that is at work here
  remove(places, image::file_name(image::Kind::inventory));
  remove(places, image::parent_link);
  for (const std::string& name : names_in(places.images.get())) {
    const auto known = image::parse_file_name(name);
    if (known && known->kind != image::Kind::cpuinfo) remove(places, name);
  }
}

std::vector<std::string> names_of_chain(const Places& places) {
  std::vector<std::string> names{places.images_path};
  for (const UniqueFd& parent : image::open_parents(places.images.get()))
    names.push_back(read_link(fmt::format("/proc/self/fd/{}", parent.get())));
  return names;
}

void mark_unusable(const Places& places) noexcept {
  ::unlinkat(places.images.get(), image::file_name(image::Kind::inventory).c_str(), 0);
  log::error("dump.unusable",
             {{"directory", places.images_path},
              {"reason", "the dump did not finish: without inventory.img nothing is restored from it"}});
}

std::string fresh_generation() {
  std::array<unsigned char, 16> bytes{};
  check(::getrandom(bytes.data(), bytes.size(), 0), "get random bytes");
  std::string text;
  for (const unsigned char b : bytes) text += fmt::format("{:02x}", b);
  return text;
}

}  // namespace godwit::engine::commands
