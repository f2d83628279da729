#include "agent/engine/memory/page_placer.h"

#include "agent/engine/memory/tracker.h"
#include "common/base/check.h"

#include <linux/userfaultfd.h>

#include <sys/ioctl.h>

namespace godwit::engine {

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
  uffdio_copy copy{};
  copy.dst = address;
  copy.src = reinterpret_cast<std::uint64_t>(data.data());
  copy.len = data.size();
  copy.mode = UFFDIO_COPY_MODE_DONTWAKE;
  if (::ioctl(userfaultfd_.get(), UFFDIO_COPY, &copy) == 0) return data.size();
  if (errno == EAGAIN && copy.copy > 0) return static_cast<std::size_t>(copy.copy);  // up to a page that is there
  if (errno == EEXIST) return 0;
  // What the layout calls one mapping is two here, as when both had pages before they became alike.
  if (errno == ENOENT && data.size() > page_size)
    return place(start, end, address, data.first(data.size() / page_size / 2 * page_size));
  throw syscall_error(errno, fmt::format("place pages at {:#x}", address));
}

void PagePlacer::release() {
  userfaultfd_.reset();
  start_ = end_ = 0;
}

}  // namespace godwit::engine
