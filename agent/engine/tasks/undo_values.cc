#include "agent/engine/tasks/undo_values.h"

#include "agent/engine/tasks/inquiry.h"
#include "agent/engine/tasks/ipc_objects.h"
#include "common/base/fd.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include <linux/kcmp.h>
#include <sched.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine::tasks {
namespace {

constexpr int highest = 32767;          // of a semaphore and of an undo value: SEMVMX, SEMAEM
constexpr int lowest = -highest - 1;    // of an undo value
constexpr long most_semaphores = 4096;  // of the whole host: 10 ms for each process
using Operations = std::array<sembuf, 9>;

// Each pair of operations leaves the semaphore as it was, and the undo value, which only one of the two moves, further
// on. Three of them, so that the semaphore stays in its range even if somebody else uses it just now.
Operations moving_undo_value(unsigned short number, int value, int by) {
  Operations operations{};
  std::size_t count = 0;
  const auto add = [&](int change, int flags) {
    operations[count++] = {number, static_cast<short>(change), static_cast<short>(flags | IPC_NOWAIT)};
  };
  const bool room_above = value <= highest / 2;
  for (const int part : {by / 3, by / 3, by - 2 * (by / 3)}) {
    const bool moves_upwards = part < 0;  // the semaphore; the undo value is its opposite
    if (moves_upwards == room_above) {
      add(-part, SEM_UNDO);
      add(part, 0);
    } else {
      add(part, 0);
      add(-part, SEM_UNDO);
    }
  }
  add(-1, 0);  // fails at 0
  add(1, 0);
  add(0, 0);  // fails anywhere else
  return operations;
}

// Nobody has ever done an operation on the others. When one was done last says no more than that: the clock may have
// been set since, and undo values may be older than the process that has them (CLONE_SYSVSEM).
std::vector<std::vector<long>> used_sets() {
  auto sets = ipc_table("sem");  // key semid perms nsems uid gid cuid cgid otime ctime
  std::erase_if(sets, [](const auto& set) { return set.size() > 8 && set[8] == 0; });
  return sets;
}

// Who has never asked for an undo value, nor made a thread, has no list of them. Neither has this thread then, and what
// both lack compares equal. Where it cannot be compared, the process is asked.
bool has_no_list(const Hold& hold) {
  check(::unshare(CLONE_SYSVSEM), "have no undo values");
  const pid_t self = ::gettid();
  return std::ranges::all_of(
      hold.threads(), [&](const HeldThread& t) { return ::syscall(SYS_kcmp, self, t.tid, KCMP_SYSVSEM, 0, 0) == 0; });
}

bool in_this_namespace(pid_t pid) {
  return read_link(fmt::format("/proc/{}/ns/ipc", pid)) == read_link("/proc/self/ns/ipc");
}

// Whether the operations failed because of the range of an undo value. A process that may not use the set gets EACCES,
// and one that is removed is no set: nobody can tell about the former, the latter has no values.
bool has_one(long result) {
  switch (-result) {
    case ERANGE: return true;
    case EAGAIN:
    case EACCES:
    case EIDRM:
    case EINVAL: return false;
    default:  // no memory, say, or kernel.sem does not allow so many operations
      fail(Errc::refused, "whether there are undo values of semaphores (SEM_UNDO) cannot be seen: {}",
           std::generic_category().message(static_cast<int>(-result)));
  }
}

struct UndoValue {
  pid_t tid;
  int set, semaphore;
};

void ask(Inquiry& ask, pid_t tid, const std::vector<std::vector<long>>& sets, std::vector<UndoValue>& found) {
  Batch& batch = ask.batch();
  for (const auto& set : sets) {
    const int id = static_cast<int>(set[1]);
    for (int number = 0; number < set[3]; number++) {
      const int value = ::semctl(id, number, GETVAL);
      if (value < 0) break;  // removed meanwhile
      if (!batch.fits(2, 2 * sizeof(Operations) + 128)) ask.run();
      const auto moved = [&](int by) {
        const Operations operations = moving_undo_value(static_cast<unsigned short>(number), value, by);
        return batch.attempt("look for an undo value", SYS_semop, id, batch.put(operations), operations.size());
      };
      const std::size_t up = moved(highest), down = moved(lowest);
      ask.then([=, &found](const Batch& b) {
        if (has_one(b.result(up)) || has_one(b.result(down))) found.push_back({tid, id, number});
      });
    }
  }
  ask.run();
}

}  // namespace

void refuse_undo_values(Hold& hold, Errc when_found) {
  if (has_no_list(hold)) return;
  const auto sets = used_sets();
  if (sets.empty() || !in_this_namespace(hold.pid())) return;  // in one of its own every set is refused
  long semaphores = 0;
  for (const auto& set : sets) semaphores += set[3];
  if (semaphores > most_semaphores)
    throw Error(Errc::refused,
                fmt::format("sysv semaphores: too many are in use on this host ({}) to ask a process that stands still "
                            "whether it has undo values (SEM_UNDO) of them: {} at most",
                            semaphores, most_semaphores),
                "remove those that nobody needs (ipcrm -s), or run it in an IPC namespace of its own");
  std::vector<UndoValue> found;
  for (const HeldThread& t : hold.threads()) {
    const bool of_its_own = t.tid == hold.pid() || ::syscall(SYS_kcmp, hold.pid(), t.tid, KCMP_SYSVSEM, 0, 0) != 0;
    if (!of_its_own) continue;
    Inquiry inquiry(hold.remote(t.tid), hold.scratch());
    ask(inquiry, t.tid, sets, found);
  }
  if (found.empty()) return;
  const UndoValue& first = found.front();
  throw Error(when_found,
              fmt::format("sysv semaphores {}: thread {} has an undo value (SEM_UNDO) of semaphore {}, which is not "
                          "carried",
                          first.set, first.tid, first.semaphore),
              "try again when it has given back what it has taken");
}

}  // namespace godwit::engine::tasks
