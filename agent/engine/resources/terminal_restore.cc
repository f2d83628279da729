#include "agent/engine/resources/terminal_restore.h"

#include "agent/engine/resources/fd_kind.h"
#include "agent/engine/resources/pseudo_terminal.h"
#include "agent/engine/resources/terminal_images.h"
#include "agent/engine/resources/terminal_queues.h"
#include "common/base/check.h"
#include "common/base/units.h"

#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit::engine::resources {
namespace {

namespace pty = pseudo_terminal;

constexpr std::chrono::seconds given_back_within{1};

unsigned number_of(int master) {
  unsigned index = 0;
  check(::ioctl(master, TIOCGPTN, &index), "read the number of a terminal");
  return index;
}

UniqueFd open_slave(unsigned index, int flags) { return open_file(pty::path_of(index), flags | O_NOCTTY | O_CLOEXEC); }

void set_size(int fd, const image::WinsizeEntry& entry) {
  winsize size{};
  size.ws_row = static_cast<unsigned short>(entry.ws_row());
  size.ws_col = static_cast<unsigned short>(entry.ws_col());
  size.ws_xpixel = static_cast<unsigned short>(entry.ws_xpixel());
  size.ws_ypixel = static_cast<unsigned short>(entry.ws_ypixel());
  check(::ioctl(fd, TIOCSWINSZ, &size), "set the size of a terminal");
}

void set_locks(int fd, const image::TermiosEntry& entry) {
  const auto locks = pty::without_speeds<termios>(pty::from_image(entry));
  check(::ioctl(fd, TIOCSLCKTRMIOS, &locks), "lock settings of a terminal");
}

void restore_file(int slave, const image::TtyInfoEntry& info) {
  if (info.has_owner()) check(::fchown(slave, info.owner(), info.group()), "give a terminal to user {}", info.owner());
  if (info.has_mode()) check(::fchmod(slave, info.mode()), "set the mode of a terminal");
}

}  // namespace

// The kernel gives out the lowest free number: those below are kept, for whoever wants them and so that they do not
// come again.
void Terminals::make(unsigned index) {
  if (masters_.contains(index)) return;
  const Doing doing("make {}", pty::path_of(index));
  for (const auto limit = Clock::now() + given_back_within; !spare_.contains(index);) {
    UniqueFd master = open_file("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    const unsigned number = number_of(master.get());
    if (number <= index) {
      spare_[number] = std::move(master);
      continue;
    }
    // Whose terminal was closed just now still has its number: a worker of the kernel's takes it back.
    if (Clock::now() > limit)
      throw Error(Errc::already_exists, fmt::format("{} is taken by another process", pty::path_of(index)),
                  "end what has it, or restore in namespaces of its own");
    ::usleep(5000);
  }
  const UniqueFd& master = masters_[index] = std::move(spare_.extract(index).mapped());
  const int off = 0;
  check(::ioctl(master.get(), TIOCSPTLCK, &off), "unlock a terminal");
}

int Terminals::master(unsigned index) {
  make(index);
  return masters_.at(index).get();
}

void Terminals::replace(unsigned index, UniqueFd fd) { replaced_[index] = std::move(fd); }

// A file of its own, whose flags are not those of whoever has given us the other terminal.
UniqueFd Terminals::open(unsigned index, int flags) {
  if (const auto other = replaced_.find(index); other != replaced_.end())
    return open_file(fmt::format("/proc/self/fd/{}", other->second.get()), flags | O_NOCTTY | O_CLOEXEC);
  make(index);
  return open_slave(index, flags);
}

UniqueFd Terminals::take_adopted(std::uint32_t id) {
  const auto at = adopted_.find(id);
  return at == adopted_.end() ? UniqueFd() : std::move(at->second);
}

void Terminals::finish(const image::ImageSet& images) {
  for (const image::TtyInfoEntry& info : images.records<image::TtyInfoEntry>(image::Kind::tty_info)) {
    if (!is_master(info) || !info.has_pty()) continue;
    const unsigned index = info.pty().index();
    const Doing doing("restore {}", pty::path_of(index));
    const int master = this->master(index), on = 1;
    const termios2 settings = info.has_termios() ? pty::from_image(info.termios()) : pty::settings_of(master);
    if (info.has_winsize()) set_size(master, info.winsize());
    if (!info.has_was_open() || info.was_open()) {
      const UniqueFd slave = open_slave(index, O_RDWR | O_NONBLOCK);
      restore_file(slave.get(), info);
      terminal_queues::put(master, slave.get(), queues_of(info, images), settings);
      if (info.exclusive()) check(::ioctl(slave.get(), TIOCEXCL), "make a terminal exclusive");
    } else {
      pty::set_settings(master, settings);
    }
    if (info.has_termios_locked()) set_locks(master, info.termios_locked());
    if (info.packet_mode()) check(::ioctl(master, TIOCPKT, &on), "begin packet mode");
    if (info.locked()) check(::ioctl(master, TIOCSPTLCK, &on), "lock a terminal");
  }
}

void Terminals::release() {
  for (auto* all : {&masters_, &spare_, &replaced_})
    for (auto& [index, fd] : *all) (void)fd.release();
  for (auto& [id, fd] : adopted_) (void)fd.release();
}

namespace terminal {

void set_state(int fd, const image::TtyInfoEntry& info) {
  // What is locked cannot be set.
  if (info.has_termios_locked()) set_locks(fd, {});
  if (info.has_termios()) pty::set_settings(fd, pty::from_image(info.termios()));
  if (info.has_winsize()) set_size(fd, info.winsize());
  if (info.has_termios_locked()) set_locks(fd, info.termios_locked());
  check(::ioctl(fd, info.exclusive() ? TIOCEXCL : TIOCNXCL), "make a terminal exclusive, or not");
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext& context) {
  const auto all = context.images.records<image::TtyInfoEntry>(image::Kind::tty_info);
  const image::TtyInfoEntry& info = info_of(entry.tty().tty_info_id(), all);
  if (info.type() == image::TTY_CURRENT) {
    UniqueFd fd = context.terminals->take_adopted(entry.id());
    if (!fd) fail(Errc::unsupported, "nobody has the terminal that was opened as /dev/tty");
    return fd;
  }
  const unsigned index = info.pty().index();
  if (!is_master(info))
    return context.terminals->open(index, (static_cast<int>(entry.tty().flags()) & O_ACCMODE) | O_NONBLOCK);
  const int master = context.terminals->master(index);
  return UniqueFd(check(::fcntl(master, F_DUPFD_CLOEXEC, 0), "copy the master of a terminal"));
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace terminal
}  // namespace godwit::engine::resources
