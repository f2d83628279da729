#include "pageserver/store/appender.h"

#include "common/base/log.h"
#include "pageserver/store/page_appender.h"
#include "pageserver/store/pwrite_appender.h"
#include "pageserver/store/uring_appender.h"

namespace godwit::pageserver {
std::unique_ptr<Appender> create_appender(int directory, const std::string& name, std::uint64_t window) {
  UniqueFd file = open_at(directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (window) return std::make_unique<PwriteAppender>(std::move(file), window);
  if (in_memory(file.get())) return std::make_unique<PageAppender>(std::move(file));
  if (auto ring = UringAppender::create(file)) return ring;
  // io_uring may be switched off (kernel.io_uring_disabled) or filtered.
  log::info("store.without_io_uring", {{"file", name}});
  return std::make_unique<PwriteAppender>(std::move(file), window);
}

}  // namespace godwit::pageserver
