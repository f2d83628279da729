#include "agent/engine/resources/pseudo_terminal.h"

#include "common/base/check.h"

#include <algorithm>
#include <iterator>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace godwit::engine::resources::pseudo_terminal {
namespace {

constexpr unsigned slaves = 136;  // major number
const dev_t current = makedev(5, 0), master = makedev(5, 2);

}  // namespace

bool is_current(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == current; }
bool is_slave(const struct stat& st) { return S_ISCHR(st.st_mode) && major(st.st_rdev) == slaves; }
bool is_master(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == master; }

std::optional<Name> name_of(int fd, const struct stat& st) {
  unsigned device = 0;
  if (::ioctl(fd, TIOCGDEV, &device) != 0) return std::nullopt;
  const dev_t slave = device;  // 32 bits of it, as for old programs
  if (major(slave) != slaves) return std::nullopt;
  Name name{.index = minor(slave)};
  if (is_slave(st)) name.instance = st.st_dev;
  if (is_master(st)) {  // O_PATH: nothing is opened that its program could notice
    const UniqueFd peer(check(::ioctl(fd, TIOCGPTPEER, O_PATH | O_CLOEXEC), "look at a terminal's other end"));
    struct stat other{};
    check(::fstat(peer.get(), &other), "stat a terminal's other end");
    name.instance = other.st_dev;
  }
  return name;
}

std::string path_of(unsigned index) { return fmt::format("/dev/pts/{}", index); }
std::string key_of(unsigned index) { return fmt::format("terminal {}", index); }

std::optional<unsigned> index_of(int device) {
  const dev_t slave = static_cast<std::uint32_t>(device);
  return major(slave) == slaves ? std::optional<unsigned>(minor(slave)) : std::nullopt;
}

termios2 settings_of(int fd) {
  termios2 settings{};
  check(::ioctl(fd, TCGETS2, &settings), "read the settings of a terminal");
  return settings;
}

void set_settings(int fd, const termios2& settings) {
  check(::ioctl(fd, TCSETS2, &settings), "change the settings of a terminal");
}

image::TermiosEntry to_image(const termios2& t) {
  image::TermiosEntry entry;
  entry.set_c_iflag(t.c_iflag);
  entry.set_c_oflag(t.c_oflag);
  entry.set_c_cflag(t.c_cflag);
  entry.set_c_lflag(t.c_lflag);
  entry.set_c_line(t.c_line);
  entry.set_c_ispeed(t.c_ispeed);
  entry.set_c_ospeed(t.c_ospeed);
  for (const unsigned char c : t.c_cc) entry.add_c_cc(c);
  return entry;
}

termios2 from_image(const image::TermiosEntry& entry) {
  termios2 t{};
  t.c_iflag = entry.c_iflag();
  t.c_oflag = entry.c_oflag();
  t.c_cflag = entry.c_cflag();
  t.c_lflag = entry.c_lflag();
  t.c_line = static_cast<unsigned char>(entry.c_line());
  t.c_ispeed = entry.c_ispeed();
  t.c_ospeed = entry.c_ospeed();
  const auto most = std::min<std::size_t>(std::size(t.c_cc), static_cast<std::size_t>(entry.c_cc_size()));
  for (std::size_t i = 0; i < most; i++) t.c_cc[i] = static_cast<unsigned char>(entry.c_cc(static_cast<int>(i)));
  return t;
}

}  // namespace godwit::engine::resources::pseudo_terminal
