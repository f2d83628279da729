#include "agent/engine/resources/terminal.h"

#include "agent/engine/resources/fown.h"
#include "agent/engine/resources/path_file.h"
#include "agent/engine/resources/pseudo_terminal.h"
#include "agent/engine/resources/terminal_queues.h"
#include "common/base/fault.h"
#include "common/base/log.h"

#include <algorithm>

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

namespace godwit::engine::resources::terminal {
namespace {

namespace pty = pseudo_terminal;

// Ids in tty-info.img. CRIU takes none above 2048, and no terminal of a number above 1000; what was opened as /dev/tty
// has this one, and, for a second terminal, those behind it.
constexpr unsigned criu_most_terminals = 1000;
constexpr std::uint32_t first_current = 2012, behind_current = 1 << 22;

std::uint32_t id_of(unsigned index, pty::End end) {
  return index * 2 + (end == pty::End::master ? 1 : 0) + (index > criu_most_terminals ? behind_current : 0);
}

std::uint32_t current_id_of(unsigned index, TerminalsMet& met) {
  TerminalEnds& ends = met[index];
  if (ends.current_id == 0)
    ends.current_id = first_current + static_cast<std::uint32_t>(std::ranges::count_if(
                                          met, [](const auto& other) { return other.second.current_id != 0; }));
  return ends.current_id;
}

const char* outside_hint() { return "move the process that has the terminal, too, or start it with setsid"; }
const char* shell_job_hint() {
  return "dump it with --shell-job, move the process that has the terminal, too, or start it with setsid";
}

// Whether /dev/pts/N of the task is this terminal: nothing else leads to it there.
bool leads_to(const FdView& view, const pty::Name& name) {
  struct stat there{};
  return ::stat(path_file::reach(view.pid, pty::path_of(name.index)).c_str(), &there) == 0 &&
         (name.instance == 0 || there.st_dev == name.instance);
}

pid_t session_leader(int master) {
  pid_t leader = 0;
  return ::ioctl(master, TIOCGSID, &leader) == 0 ? leader : 0;
}

bool contains(const std::vector<pid_t>& tree, pid_t pid) { return std::ranges::find(tree, pid) != tree.end(); }

bool has_master(const std::map<std::string, unsigned>& all, unsigned index) {
  const auto held = all.find(pty::key_of(index));
  return held != all.end() && (held->second & held_for_writing) != 0;
}

// With --shell-job.
std::optional<Refusal> outer_refusal(const std::string& what, const SurveyContext& context) {
  if (context.outer_terminals.size() < 2) return std::nullopt;
  std::string all;
  for (const unsigned index : context.outer_terminals) all += (all.empty() ? "" : ", ") + pty::path_of(index);
  return Refusal{what,
                 fmt::format("there are several terminals whose other ends are held by other processes ({})", all),
                 "only one can be exchanged: redirect what uses the others", "--shell-job"};
}

// PIDs as the tree knows them.
std::map<pid_t, pid_t> guests_of(const std::vector<pid_t>& tree) {
  std::map<pid_t, pid_t> guests;
  std::size_t depth = 0;  // of the root's PID namespace
  for (const pid_t pid : tree) {
    const proc::Status s = proc::Reader(pid).status();
    if (depth == 0) depth = s.ns_pid.size();
    for (const auto* ids : {&s.ns_pid, &s.ns_pgid, &s.ns_sid})
      if (!ids->empty()) guests[ids->front()] = proc::at_level(*ids, depth - 1, ids->front());
  }
  return guests;
}

bool flag(int fd, unsigned long request) {
  int on = 0;
  check(::ioctl(fd, request, &on), "read the state of a terminal");
  return on != 0;
}

image::WinsizeEntry size_of(int fd) {
  winsize size{};
  check(::ioctl(fd, TIOCGWINSZ, &size), "read the size of a terminal");
  image::WinsizeEntry entry;
  entry.set_ws_row(size.ws_row);
  entry.set_ws_col(size.ws_col);
  entry.set_ws_xpixel(size.ws_xpixel);
  entry.set_ws_ypixel(size.ws_ypixel);
  return entry;
}

// Whose it is, by what the tasks say: the terminal itself tells only its master.
void set_session(unsigned index, const std::vector<pid_t>& tree, image::TtyInfoEntry& info) {
  info.set_sid(0);
  info.set_pgrp(0);
  for (const pid_t pid : tree) {
    const proc::Stat stat = proc::Reader(pid).stat();
    if (pty::index_of(stat.tty) != index) continue;
    std::map<pid_t, pid_t> guests = guests_of(tree);
    info.set_sid(static_cast<std::uint32_t>(guests[stat.sid]));
    info.set_pgrp(stat.tpgid > 0 ? static_cast<std::uint32_t>(guests[stat.tpgid]) : 0);
    return;
  }
}

void read_settings(int fd, image::TtyInfoEntry& info) {
  *info.mutable_termios() = pty::to_image(pty::settings_of(fd));
  termios locked{};
  check(::ioctl(fd, TIOCGLCKTRMIOS, &locked), "read the locks of a terminal");
  *info.mutable_termios_locked() = pty::to_image(pty::without_speeds<termios2>(locked));
  *info.mutable_winsize() = size_of(fd);
}

image::TtyInfoEntry describe(unsigned index, int fd, const std::vector<pid_t>& tree) {
  image::TtyInfoEntry info;
  info.set_type(image::TTY_PTY);
  info.set_locked(false);
  info.set_exclusive(false);
  info.set_packet_mode(false);
  set_session(index, tree, info);
  read_settings(fd, info);
  info.mutable_pty()->set_index(index);
  return info;
}

void put_data(std::uint32_t id, const std::string& data, const std::vector<std::uint32_t>& lines,
              image::ImageSet& out) {
  if (data.empty() && lines.empty()) return;
  image::TtyDataEntry entry;
  entry.set_tty_id(id);
  entry.set_data(data);
  entry.mutable_lines()->Assign(lines.begin(), lines.end());
  out.append(image::Kind::tty_data, 0, entry);
}

// Gives a terminal back the settings and modes that it had, whatever has happened meanwhile.
class AsItWas {
 public:
  AsItWas(int master, int slave, const image::TtyInfoEntry& info)
      : master_(master), slave_(slave), info_(info), settings_(pty::settings_of(slave)) {}
  ~AsItWas() {
    const int on = 1;
    ::ioctl(slave_, TCSETS2, &settings_);
    if (info_.packet_mode()) ::ioctl(master_, TIOCPKT, &on);
    if (info_.locked()) ::ioctl(master_, TIOCSPTLCK, &on);
  }
  AsItWas(const AsItWas&) = delete;
  AsItWas& operator=(const AsItWas&) = delete;
  const termios2& settings() const { return settings_; }

 private:
  int master_, slave_;
  const image::TtyInfoEntry& info_;
  termios2 settings_;
};

// Out and in again, while nobody of the tree runs. Only a slave can be locked against being opened. When taking out
// fails half way, what has come out goes in again, too: the program may go on.
terminal_queues::Queues look_into(int master, int slave, const image::TtyInfoEntry& info) {
  const int off = 0;
  terminal_queues::refuse_too_many_lines(slave);
  const AsItWas terminal(master, slave, info);
  if (info.locked()) check(::ioctl(master, TIOCSPTLCK, &off), "unlock a terminal");
  terminal_queues::Queues queues;
  try {
    terminal_queues::take(master, slave, queues);
    fault::point("engine.dump.terminal");
  } catch (...) {
    try {
      terminal_queues::put(master, slave, queues, terminal.settings());
    } catch (const Error& e) {
      log::error("terminal.lost", {{"terminal", pty::path_of(info.pty().index())}, {"message", e.message()}});
    }
    throw;
  }
  terminal_queues::put(master, slave, queues, terminal.settings());
  return queues;
}

// Where the slave is closed, opening it for a moment changes nothing that its master could see afterwards.
UniqueFd open_closed(int master, bool locked) {
  const int off = 0, on = 1;
  if (locked) check(::ioctl(master, TIOCSPTLCK, &off), "unlock a terminal");
  const int opened = ::ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  const int problem = errno;
  if (locked) ::ioctl(master, TIOCSPTLCK, &on);
  if (opened < 0) throw syscall_error(problem, "open a terminal's other end");
  return UniqueFd(opened);
}

void dump_pair(unsigned index, const TerminalEnds& ends, const std::vector<pid_t>& tree, image::ImageSet& out) {
  const Doing doing("{}", pty::path_of(index));
  image::TtyInfoEntry info = describe(index, ends.master, tree);
  info.set_locked(flag(ends.master, TIOCGPTLCK));
  info.set_packet_mode(flag(ends.master, TIOCGPKT));
  pollfd poll{ends.master, POLLPRI, 0};
  check(::poll(&poll, 1, 0), "poll a terminal");
  if ((poll.revents & POLLPRI) != 0) fail(Errc::busy, "its master has not read yet what has happened to it");
  const bool closed = (poll.revents & POLLHUP) != 0;
  UniqueFd opened;
  int slave = ends.slave;
  if (slave < 0 && (closed || info.sid() != 0 || ends.current >= 0)) {
    opened = open_closed(ends.master, info.locked());
    slave = opened.get();
  }
  info.set_was_open(slave >= 0);
  if (slave >= 0) {
    info.set_exclusive(flag(slave, TIOCGEXCL));
    struct stat file{};
    check(::stat(fmt::format("/proc/self/fd/{}", slave).c_str(), &file), "stat a terminal");
    info.set_owner(file.st_uid);
    info.set_group(file.st_gid);
    info.set_mode(file.st_mode & 07777);
    const terminal_queues::Queues queues = look_into(ends.master, slave, info);
    info.set_halt(queues.halt);
    put_data(id_of(index, pty::End::slave), queues.input, queues.lines, out);
    put_data(id_of(index, pty::End::master), queues.output, {}, out);
  }
  image::TtyInfoEntry of_slave = info;
  of_slave.set_id(id_of(index, pty::End::slave));
  of_slave.set_rdev(static_cast<std::uint32_t>(makedev(136, index)));
  of_slave.set_packet_mode(false);
  out.append(image::Kind::tty_info, 0, of_slave);
  info.set_id(id_of(index, pty::End::master));
  info.set_rdev(static_cast<std::uint32_t>(makedev(5, 2)));
  out.append(image::Kind::tty_info, 0, info);
}

// Seen from the slave, which is all that there is.
void dump_outer(unsigned index, const TerminalEnds& ends, const std::vector<pid_t>& tree, image::ImageSet& out) {
  const Doing doing("{}", pty::path_of(index));
  const int fd = ends.slave >= 0 ? ends.slave : ends.current;
  image::TtyInfoEntry info = describe(index, fd, tree);
  info.set_exclusive(flag(fd, TIOCGEXCL));
  info.set_id(id_of(index, pty::End::slave));
  info.set_rdev(static_cast<std::uint32_t>(makedev(136, index)));
  out.append(image::Kind::tty_info, 0, info);
}

}  // namespace

bool matches(const FdView& view) {
  return pty::is_current(view.st) || pty::is_slave(view.st) || pty::is_master(view.st);
}

void add_held(const FdView& view, std::map<std::string, unsigned>& held) {
  if (const auto name = pty::name_of(view.fd, view.st))
    held[pty::key_of(name->index)] |= pty::is_master(view.st) ? held_for_writing : held_for_reading;
}

std::set<unsigned> outer_of(std::span<const pid_t> tree, const std::map<std::string, unsigned>& held) {
  std::set<unsigned> outer;
  for (const auto& [key, ends] : held)
    if (const auto index = pty::index_in(key); index && !has_master(held, *index)) outer.insert(*index);
  for (const pid_t pid : tree) {
    try {
      const auto index = pty::index_of(proc::Reader(pid).stat().tty);
      if (index && !has_master(held, *index)) outer.insert(*index);
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone) throw;
    }
  }
  return outer;
}

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context) {
  const auto name = pty::name_of(view.fd, view.st);
  if (!name) {
    if (pty::is_current(view.st))
      return Refusal{view.describe(), "the terminal is a console, or has been hung up", "start it on another terminal"};
    return Refusal{view.describe(), "the terminal has been hung up: its other end is closed",
                   "close it before the move"};
  }
  int discipline = 0;
  if (::ioctl(view.fd, TIOCGETD, &discipline) == 0 && discipline != 0)
    return Refusal{view.describe(),
                   fmt::format("the terminal has line discipline {}, which is not carried", discipline),
                   "end what uses the line"};
  const bool outer = !has_master(context.held, name->index);
  if (outer && !context.options.shell_job)
    return Refusal{view.describe(), "the other end of the terminal is held by another process", shell_job_hint(),
                   "--shell-job"};
  if (!leads_to(view, *name))
    return Refusal{view.describe(), fmt::format("{} is another terminal there", pty::path_of(name->index)),
                   "mount one devpts per mount namespace, at /dev/pts"};
  if (outer) return outer_refusal(view.describe(), context);
  if (const auto holder = context.outside.find(pty::key_of(name->index)); holder != context.outside.end())
    return Refusal{view.describe(), fmt::format("the terminal is also open in process {}", holder->second),
                   outside_hint()};
  if (pty::is_master(view.st))
    if (const pid_t leader = session_leader(view.fd); leader != 0 && !contains(context.tree, leader))
      return Refusal{view.describe(), fmt::format("it is the controlling terminal of process {}", leader),
                     outside_hint()};
  return std::nullopt;
}

std::optional<Refusal> controlling_refusal(const proc::Stat& stat, const SurveyContext& context) {
  if (stat.tty == 0) return std::nullopt;
  const std::string what = fmt::format("process {} ({})", context.pid, stat.comm);
  const std::optional<unsigned> index = pty::index_of(stat.tty);
  if (!index)
    return Refusal{what,
                   fmt::format("its controlling terminal is a console or a line of this host (tty {:#x})", stat.tty),
                   "start it on a pseudo terminal, or with setsid"};
  const bool outer = !has_master(context.held, *index);
  if (!outer && contains(context.tree, stat.sid)) return std::nullopt;
  if (outer && context.options.shell_job) {
    if (stat.sid == proc::Reader(context.tree.front()).stat().sid) return outer_refusal(what, context);
    return Refusal{what,
                   fmt::format("{}, whose other end is held by another process, controls session {}, which is not that "
                               "of process {}",
                               pty::path_of(*index), stat.sid, context.tree.front()),
                   "dump that session by itself", "--shell-job"};
  }
  return Refusal{what,
                 fmt::format("its session has a controlling terminal, {}, whose other end is held by another process",
                             pty::path_of(*index)),
                 outer ? "dump it with --shell-job, or start it with setsid, its output in files" : outside_hint(),
                 "--shell-job"};
}

void dump(const FdView& view, image::FileEntry& entry, DumpContext& context) {
  const auto name = pty::name_of(view.fd, view.st);
  if (!name) fail(Errc::busy, "{}: it has just been hung up", view.describe());
  TerminalEnds& ends = context.terminals[name->index];
  (pty::is_master(view.st) ? ends.master : pty::is_current(view.st) ? ends.current : ends.slave) = view.fd;
  image::TtyFileEntry& file = *entry.mutable_tty();
  file.set_id(entry.id());
  file.set_tty_info_id(pty::is_current(view.st) ? current_id_of(name->index, context.terminals)
                                                : id_of(name->index, pty::end_of(view.st)));
  file.set_flags(view.flags());
  *file.mutable_fown() = dump_fown(view.fd);
  image::RegFileEntry& path = *entry.mutable_reg();  // file_ids.cc
  path.set_id(entry.id());
  path.set_flags(view.flags());
  path.set_pos(0);
  *path.mutable_fown() = file.fown();
  path.set_name(view.link);
}

image::TtyInfoEntry state_of(int fd) {
  image::TtyInfoEntry info;
  read_settings(fd, info);
  info.set_exclusive(flag(fd, TIOCGEXCL));
  return info;
}

void dump_terminals(const TerminalsMet& met, const std::vector<pid_t>& tree, image::ImageSet& out) {
  for (const auto& [index, ends] : met) {
    (ends.master >= 0 ? dump_pair : dump_outer)(index, ends, tree, out);
    if (ends.current < 0) continue;
    image::TtyInfoEntry info = describe(index, ends.current, tree);
    info.set_id(ends.current_id);
    info.set_type(image::TTY_CURRENT);
    info.clear_pty();
    info.set_current_index(index);
    info.set_rdev(static_cast<std::uint32_t>(makedev(5, 0)));
    out.append(image::Kind::tty_info, 0, info);
  }
}

}  // namespace godwit::engine::resources::terminal
