#include "common/image/unfinished.h"

#include "common/image/magic.h"

#include <cerrno>
#include <string_view>

#include <sys/file.h>
#include <unistd.h>

namespace godwit::image {
namespace {

constexpr const char* mark_name = "unfinished";
constexpr std::string_view part_suffix = ".part";
constexpr std::size_t max_mark = 16u << 20;

// The mark may have been made by anybody who can write here: nothing but images is removed on its word.
bool is_ours(std::string_view name) {
  if (name.ends_with(part_suffix)) name.remove_suffix(part_suffix.size());
  const auto image = parse_file_name(name);
  return image && (image->kind == Kind::pages || image->kind == Kind::pagemap || image->kind == Kind::pagemap_shmem);
}

void remove_what_it_names(int directory, std::string_view mark) {
  while (!mark.empty()) {
    const std::size_t end = mark.find('\n');
    const std::string name(mark.substr(0, end));
    mark.remove_prefix(end == std::string_view::npos ? mark.size() : end + 1);
    if (is_ours(name) && ::unlinkat(directory, name.c_str(), 0) != 0 && errno != ENOENT) check(-1, "remove {}", name);
  }
}

bool is_marked(int directory) { return ::faccessat(directory, mark_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0; }

}  // namespace

Unfinished::Unfinished(int directory) : directory_(directory) {
  mark_ = open_beneath(directory, mark_name, O_RDWR | O_CREAT | O_APPEND, 0600);
  if (::flock(mark_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) fail(Errc::busy, "somebody else is writing into this images directory");
    check(-1, "lock the mark of an unfinished set");
  }
  remove_what_it_names(directory, read_all(mark_.get(), max_mark));
  check(::ftruncate(mark_.get(), 0), "empty the mark of an unfinished set");
}

void Unfinished::add(const std::string& name) { write_all(mark_.get(), name + "\n"); }

void Unfinished::finish() { check(::unlinkat(directory_, mark_name, 0), "remove the mark of an unfinished set"); }

void Unfinished::remove_left(int directory) {
  if (!is_marked(directory)) return;
  try {
    Unfinished(directory).finish();
  } catch (const Error& e) {
    if (e.errc() != Errc::busy) throw;
  }
}

void Unfinished::refuse(int directory) {
  if (!is_marked(directory)) return;
  throw Error(Errc::image_corrupt, "what was written here is not complete: the connection ended before its end",
              "dump again; the next session into this directory removes what is left");
}

}  // namespace godwit::image
