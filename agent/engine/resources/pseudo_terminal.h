// A pseudo terminal, seen from one of its ends.
#pragma once

#include "agent/engine/resources/fd_view.h"
#include "common/image/tty.pb.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include <asm/termbits.h>
#include <sys/types.h>

namespace godwit::engine::resources::pseudo_terminal {

enum class End { master = 1, slave };

struct Name {
  unsigned index = 0;
  dev_t instance = 0;  // the devpts that it is in; 0: opened as /dev/tty, which does not tell
  bool operator==(const Name&) const = default;
};

bool is_current(const struct stat& st);  // /dev/tty
bool is_slave(const struct stat& st);    // /dev/pts/N
bool is_master(const struct stat& st);   // /dev/ptmx
inline End end_of(const struct stat& st) { return is_master(st) ? End::master : End::slave; }

// Nothing: it has been hung up, or is a console or a serial line that was opened as /dev/tty.
std::optional<Name> name_of(int fd, const struct stat& st);

std::string path_of(unsigned index);  // "/dev/pts/3"
std::string key_of(unsigned index);   // how a survey notes who holds which end
std::optional<unsigned> index_in(std::string_view key);

// Of /proc/PID/stat: the terminal of a session; nothing when it is no pseudo terminal.
std::optional<unsigned> index_of(int device);

// The kernel has locks of settings in the older structure of the two, which has no speeds.
template <class To, class From>
To without_speeds(const From& from) {
  To to{};
  to.c_iflag = from.c_iflag;
  to.c_oflag = from.c_oflag;
  to.c_cflag = from.c_cflag;
  to.c_lflag = from.c_lflag;
  to.c_line = from.c_line;
  std::ranges::copy(from.c_cc, to.c_cc);
  return to;
}

// Of the slave, whichever end is asked.
termios2 settings_of(int fd);
void set_settings(int fd, const termios2& settings);
image::TermiosEntry to_image(const termios2& settings);
termios2 from_image(const image::TermiosEntry& entry);

}  // namespace godwit::engine::resources::pseudo_terminal
