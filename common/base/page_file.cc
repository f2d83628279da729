#include "common/base/page_file.h"

#include "common/base/units.h"

#include <algorithm>

#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

namespace godwit {
namespace {

constexpr std::uint64_t window_size = 64u << 20;
// Of a small file, mapping it would cost more than it saves.
constexpr std::uint64_t never_mapped = 1u << 20;

// A file that is mapped is made longer than it will be, which a limit would end the process for.
bool may_be_longer() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;
}

UniqueFd make_userfaultfd() {
  UniqueFd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY)));
  uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
  if (fd && ::ioctl(fd.get(), UFFDIO_API, &api) != 0) fd.reset();
  return fd;
}

}  // namespace

bool in_memory(int fd) {
  struct statfs fs{};
  check(::fstatfs(fd, &fs), "look at the file system");
  return fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
}

PageFile::Window::~Window() { ::munmap(start, window_size); }

PageFile::PageFile(UniqueFd file) : file_(std::move(file)) {}

std::shared_ptr<PageFile::Window> PageFile::map(std::uint64_t index) {
  if (!userfaultfd_ && in_memory(file_.get()) && may_be_longer()) userfaultfd_ = make_userfaultfd();
  if (!userfaultfd_) return nullptr;
  const std::uint64_t start = index * window_size;
  if (length_ < start + window_size) {
    if (::ftruncate(file_.get(), static_cast<off_t>(start + window_size)) != 0) return nullptr;
    length_ = start + window_size;
  }
  void* at = ::mmap(nullptr, window_size, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), static_cast<off_t>(start));
  if (at == MAP_FAILED) return nullptr;
  auto window = std::make_shared<Window>(static_cast<std::byte*>(at));
  uffdio_register request{};
  request.range = {reinterpret_cast<std::uint64_t>(at), window_size};
  request.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (::ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &request) != 0) return nullptr;
  return window;
}

// Nothing where it cannot be had, and then it is not tried again: ramfs, say, is never mapped so.
std::shared_ptr<PageFile::Window> PageFile::window(std::uint64_t index) {
  const std::lock_guard lock(mutex_);
  auto& [first, second] = mapped_;
  if (!first.window || first.index != index) {
    std::swap(first, second);
    if (!first.window || first.index != index) first = {index, map(index)};
    if (!first.window) unmappable_ = true;
  }
  return first.window;
}

// How many bytes were placed: fewer where the window ends, or the kernel does not like to.
std::size_t PageFile::place(std::span<const std::byte> pages, std::uint64_t offset) {
  if (pages.size() % page_size != 0 || offset % page_size != 0) return 0;
  const std::shared_ptr<Window> into = window(offset / window_size);
  if (!into) return 0;
  const std::uint64_t from = offset % window_size;
  uffdio_copy copied{};
  copied.dst = reinterpret_cast<std::uint64_t>(into->start) + from;
  copied.src = reinterpret_cast<std::uint64_t>(pages.data());
  copied.len = std::min<std::uint64_t>(pages.size(), window_size - from);
  copied.mode = UFFDIO_COPY_MODE_DONTWAKE;
  ::ioctl(userfaultfd_.get(), UFFDIO_COPY, &copied);
  return static_cast<std::size_t>(std::max<std::int64_t>(copied.copy, 0));
}

void PageFile::write(std::span<const std::byte> pages, std::uint64_t offset) {
  while (offset >= never_mapped && !unmappable_ && !pages.empty()) {
    const std::size_t placed = place(pages, offset);
    if (placed == 0) break;  // no memory, say: pwrite tells
    pages = pages.subspan(placed);
    offset += placed;
  }
  pwrite_all(file_.get(), pages, static_cast<off_t>(offset));
}

void PageFile::finish(std::uint64_t length) {
  const std::lock_guard lock(mutex_);
  mapped_ = {};
  userfaultfd_.reset();
  if (length_ > length) check(::ftruncate(file_.get(), static_cast<off_t>(length)), "end a file of pages");
}

}  // namespace godwit
