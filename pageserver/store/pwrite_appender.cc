#include "pageserver/store/pwrite_appender.h"

#include <algorithm>
#include <array>

#include <limits.h>
#include <sys/uio.h>

namespace godwit::pageserver {

void PwriteAppender::append(std::span<const Piece> pieces) {
  std::array<iovec, 256> vectors;
  static_assert(vectors.size() <= IOV_MAX);
  std::size_t skip = 0;  // of the first piece: already written
  while (!pieces.empty()) {
    const std::size_t count = std::min(pieces.size(), vectors.size());
    for (std::size_t i = 0; i < count; ++i) vectors[i] = {const_cast<std::byte*>(pieces[i].data()), pieces[i].size()};
    vectors[0].iov_base = static_cast<std::byte*>(vectors[0].iov_base) + skip;
    vectors[0].iov_len -= skip;
    const ssize_t n = ::pwritev(file_.get(), vectors.data(), static_cast<int>(count), static_cast<off_t>(stored_));
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

}  // namespace godwit::pageserver
