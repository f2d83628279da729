#include "agent/engine/resources/pseudo_terminal.h"

#include "common/base/check.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace godwit::engine::resources::pseudo_terminal {
namespace {

constexpr unsigned slaves = 136;  // major number
const dev_t current = makedev(5, 0), master = makedev(5, 2);

// The control characters are four to a word in CRIU's images, of which it writes and expects as many words as there are
// characters. The words that are left say nothing; with this in them nobody takes the others for one character each, as
// Godwit wrote them once.
constexpr std::size_t criu_words = 19;
constexpr std::uint32_t beyond = ~0u;

constexpr std::string_view key_prefix = "terminal ";

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
std::string key_of(unsigned index) { return fmt::format("{}{}", key_prefix, index); }

std::optional<unsigned> index_in(std::string_view key) {
  if (!key.starts_with(key_prefix)) return std::nullopt;
  key.remove_prefix(key_prefix.size());
  unsigned index = 0;
  const auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), index);
  return problem == std::errc() && end == key.data() + key.size() ? std::optional(index) : std::nullopt;
}

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
  std::array<std::uint32_t, criu_words> words;
  words.fill(beyond);
  for (std::size_t i = 0; i < std::size(t.c_cc); i++) {
    std::uint32_t& word = words[i / 4];
    if (i % 4 == 0) word = 0;
    word |= std::uint32_t{t.c_cc[i]} << i % 4 * 8;
  }
  for (const std::uint32_t word : words) entry.add_c_cc(word);
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
  const bool packed = std::ranges::any_of(entry.c_cc(), [](std::uint32_t word) { return word > 0xff; });
  for (std::size_t i = 0; i < std::size(t.c_cc); i++) {
    const auto at = static_cast<int>(packed ? i / 4 : i);
    const std::uint32_t word = at < entry.c_cc_size() ? entry.c_cc(at) : 0;
    t.c_cc[i] = static_cast<unsigned char>(packed ? word >> i % 4 * 8 : word);
  }
  return t;
}

}  // namespace godwit::engine::resources::pseudo_terminal
