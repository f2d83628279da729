#include "agent/engine/memory/page_placer.h"

#include "agent/engine/memory/tracker.h"
#include "common/base/check.h"

#include <linux/userfaultfd.h>

#include <sys/ioctl.h>

namespace godwit::engine {
namespace {

constexpr std::size_t worth_two = 1u << 20;  // what takes so long (300 us) that another thread brings something

}  // namespace

bool PagePlacer::registered(std::uint64_t start, std::uint64_t end) {
  if (start == start_ && end == end_) return true;
  if (unavailable_) return false;
  if (!userfaultfd_) {
    try {
      userfaultfd_ = inject_userfaultfd(remote_, pidfd_, 0);
    } catch (const Error& e) {
      if (e.errc() != Errc::kernel_missing) throw;
      unavailable_ = true;
      return false;
    }
  }
  uffdio_register request{};
  request.range = {start, end - start};
  request.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (::ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &request) != 0) return false;
  start_ = start;
  end_ = end;
  return true;
}

std::optional<std::size_t> PagePlacer::place(std::uint64_t start, std::uint64_t end, std::uint64_t address,
                                             std::span<const std::byte> data) {
  if (!registered(start, end)) return std::nullopt;
  return data.size() < worth_two ? copy(address, data) : copy_by_two(address, data);
}

std::size_t PagePlacer::copy(std::uint64_t address, std::span<const std::byte> data) {
  uffdio_copy copied{};
  copied.dst = address;
  copied.src = reinterpret_cast<std::uint64_t>(data.data());
  copied.len = data.size();
  copied.mode = UFFDIO_COPY_MODE_DONTWAKE;
  if (::ioctl(userfaultfd_.get(), UFFDIO_COPY, &copied) == 0) return data.size();
  if (errno == EAGAIN && copied.copy > 0) return static_cast<std::size_t>(copied.copy);  // up to a page that is there
  if (errno == EEXIST) return 0;
  // What the layout calls one mapping is two here, as when both had pages before they became alike.
  if (errno == ENOENT && data.size() > page_size)
    return copy(address, data.first(data.size() / page_size / 2 * page_size));
  throw syscall_error(errno, fmt::format("place pages at {:#x}", address));
}

// The kernel locks the mapping for reading only. Behind a page that was there already the second half is placed all the
// same: whoever comes to it finds its pages there.
std::size_t PagePlacer::copy_by_two(std::uint64_t address, std::span<const std::byte> data) {
  if (!second_) second_.emplace();
  const std::size_t half = data.size() / page_size / 2 * page_size;
  std::future<std::size_t> behind =
      second_->run([this, address, half, data] { return copy(address + half, data.subspan(half)); });
  std::size_t placed = 0;
  try {
    placed = copy(address, data.first(half));
  } catch (...) {
    behind.wait();  // it reads `data`
    throw;
  }
  const std::size_t more = behind.get();
  return placed < half ? placed : half + more;
}

void PagePlacer::release() {
  second_.reset();
  userfaultfd_.reset();
  start_ = end_ = 0;
}

void PagePlacer::forgo() {
  release();
  unavailable_ = true;
}

}  // namespace godwit::engine
