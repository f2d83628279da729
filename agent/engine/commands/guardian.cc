#include "agent/engine/commands/guardian.h"

#include "agent/engine/memory/aio_requests.h"
#include "agent/engine/ptrace/recover.h"
#include "common/base/check.h"

#include <sys/mman.h>

namespace godwit::engine::commands {

Guardian::Guardian(const std::function<void()>& afterwards)
    : memory_(check(::memfd_create("godwit-journal", MFD_CLOEXEC), "create a journal")),
      journal_(UniqueFd(check(::fcntl(memory_.get(), F_DUPFD_CLOEXEC, 0), "duplicate a descriptor"))),
      heir_(memory_.get(), [&](UniqueFd memory) {
        Journal left(std::move(memory));
        if (left.idle()) return;
        recover(left, "", true, finish_aio_look);
        afterwards();
      }) {}

}  // namespace godwit::engine::commands
