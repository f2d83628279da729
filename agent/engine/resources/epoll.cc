#include "agent/engine/resources/epoll.h"

#include "agent/engine/resources/fown.h"

#include <algorithm>
#include <map>

#include <linux/kcmp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

namespace godwit::engine::resources::epoll {
namespace {

// struct epoll_params as one number: how devices are polled while nothing is ready, 6.9+
constexpr unsigned long set_parameters = _IOC(_IOC_WRITE, 0x8a, 1, sizeof(std::uint64_t)),
                        get_parameters = _IOC(_IOC_READ, 0x8a, 2, sizeof(std::uint64_t));

const FdView* find(const std::vector<FdView>& table, int number) {
  const auto at = std::ranges::lower_bound(table, number, {}, &FdView::number);
  return at != table.end() && at->number == number ? &*at : nullptr;
}

// Whether descriptor `number` is the open file that the epoll file watches as `slot`.
bool watches(const FdView& epoll, const kcmp_epoll_slot& slot, int number) {
  const long result = ::syscall(SYS_kcmp, epoll.pid, epoll.pid, KCMP_EPOLL_TFD, number, &slot);
  return check(result, "compare fd {} with a file that {} watches", number, epoll.describe()) == 0;
}

// The descriptor through which to watch: `tfd` itself unless it was closed or reused while a duplicate lives on.
int find_watched(const FdView& epoll, const kcmp_epoll_slot& slot, std::uint64_t inode,
                 const std::vector<FdView>& table) {
  const int number = static_cast<int>(slot.tfd);
  if (const FdView* view = find(table, number); view != nullptr && view->st.st_ino == inode) {
    // A socket has one open file only; of other files, several may have the same inode.
    if (view->socket || watches(epoll, slot, number)) return number;
  }
  for (const FdView& view : table) {
    if (view.st.st_ino == inode && watches(epoll, slot, view.number)) return view.number;
  }
  fail(Errc::unsupported, "{} watches a file (inode {}) that was descriptor {} and is open only outside the task",
       epoll.describe(), inode, number);
}

void add(int epoll_fd, const image::EventpollTfdEntry& watch) {
  epoll_event event{.events = watch.events(), .data = {.u64 = watch.data()}};
  check(::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, static_cast<int>(watch.tfd()), &event), "watch fd {}", watch.tfd());
}

// The key of a watch is the number it is added under: puts the file there for the length of the call.
void add_through(int epoll_fd, const image::EventpollTfdEntry& watch) {
  const int number = static_cast<int>(watch.tfd());
  const int flags = ::fcntl(number, F_GETFD);
  UniqueFd occupant;
  if (flags >= 0) occupant = UniqueFd(check(::fcntl(number, F_DUPFD_CLOEXEC, 0), "put fd {} aside", number));
  check(::dup2(static_cast<int>(watch.through()), number), "show fd {} as {}", watch.through(), number);
  add(epoll_fd, watch);
  if (occupant) {
    check(::dup3(occupant.get(), number, flags & FD_CLOEXEC ? O_CLOEXEC : 0), "put fd {} back", number);
  } else {
    ::close(number);
  }
}

}  // namespace

bool matches(const FdView& view) { return view.link == "anon_inode:[eventpoll]"; }

std::optional<Refusal> refusal(const FdView&, SurveyContext&) { return std::nullopt; }

void dump(const FdView& view, image::FileEntry& entry, DumpContext& context) {
  image::EventpollFileEntry& file = *entry.mutable_epfd();
  file.set_id(entry.id());
  file.set_flags(view.flags());
  *file.mutable_fown() = dump_fown(view.fd);
  if (std::uint64_t parameters = 0; ::ioctl(view.fd, get_parameters, &parameters) == 0 && parameters)
    file.set_busy_poll(parameters);
  std::map<int, std::uint32_t> seen;  // several files can be watched under one number, one after another
  for (const proc::EpollTarget& target : view.info.epoll) {
    const kcmp_epoll_slot slot{static_cast<std::uint32_t>(view.number), static_cast<std::uint32_t>(target.fd),
                               seen[target.fd]++};
    const int through = find_watched(view, slot, target.inode, context.table);
    image::EventpollTfdEntry& watch = *file.add_tfd();
    watch.set_id(entry.id());
    watch.set_tfd(static_cast<std::uint32_t>(target.fd));
    watch.set_events(target.events);
    watch.set_data(target.data);
    watch.set_dev(target.dev);
    watch.set_inode(target.inode);
    watch.set_pos(static_cast<std::uint64_t>(target.pos));
    if (through != target.fd) watch.set_through(static_cast<std::uint32_t>(through));
  }
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext&) {
  UniqueFd fd(check(::epoll_create1(EPOLL_CLOEXEC), "create an epoll file"));
  if (const std::uint64_t parameters = entry.epfd().busy_poll())
    check(::ioctl(fd.get(), set_parameters, &parameters), "set how an epoll file polls devices");
  return fd;
}

void link(const image::FileEntry& entry, int fd, RestoreContext&) {
  // A spent EPOLLONESHOT watch comes back with ERR and HUP armed: EPOLL_CTL_ADD always adds them.
  for (const image::EventpollTfdEntry& watch : entry.epfd().tfd()) {
    if (watch.has_through()) {
      add_through(fd, watch);
    } else {
      add(fd, watch);
    }
  }
}

}  // namespace godwit::engine::resources::epoll
