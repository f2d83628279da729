#include "pageserver/store/pwrite_appender.h"

#include "common/pagewire/wire.h"

#include <algorithm>
#include <array>
#include <limits>

#include <limits.h>
#include <sys/uio.h>

namespace godwit::pageserver {

// One call writes up to the end of the window, of the pieces, or of the vector.
void PwriteAppender::append(std::span<const Piece> pieces) {
  std::array<iovec, 256> vectors;
  static_assert(vectors.size() <= IOV_MAX);
  constexpr std::uint64_t everything = std::numeric_limits<std::int64_t>::max();
  std::size_t skip = 0;  // of the first piece: already written
  while (!pieces.empty()) {
    const auto [at, room] = pagewire::spool_place(window_, stored_, everything);
    std::size_t count = 0, length = 0;
    while (count < std::min(pieces.size(), vectors.size()) && length < room) {
      const Piece rest = pieces[count].subspan(count == 0 ? skip : 0);
      const std::size_t part = std::min<std::size_t>(rest.size(), room - length);
      vectors[count++] = {const_cast<std::byte*>(rest.data()), part};
      length += part;
    }
    const ssize_t n = ::pwritev(file_.get(), vectors.data(), static_cast<int>(count), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    check(n, "write to the spool");
    stored_ += static_cast<std::uint64_t>(n);
    skip += static_cast<std::size_t>(n);
    while (!pieces.empty() && skip >= pieces.front().size()) {
      skip -= pieces.front().size();
      pieces = pieces.subspan(1);
    }
    if (n == 0 && !pieces.empty()) fail(Errc::no_space, "write to the spool: nothing was written");
  }
}

void PwriteAppender::sync() { check(::fsync(file_.get()), "sync the store"); }

}  // namespace godwit::pageserver
