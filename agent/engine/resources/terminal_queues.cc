#include "agent/engine/resources/terminal_queues.h"

#include "common/base/check.h"

#include <algorithm>
#include <string_view>

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace godwit::engine::resources::terminal_queues {
namespace {

using pseudo_terminal::set_settings;
using pseudo_terminal::settings_of;

constexpr std::size_t largest_read = 8192;  // more than a line can have
constexpr unsigned most_reads = 1 << 16;
constexpr int queue_size = 4095;  // what a line discipline holds; more waits in front of it
// Of complete lines. A line discipline that is full of them has more in front of it, which would come in, be echoed and
// take effect while the lines are taken out.
constexpr int most_lines = 2048;
constexpr int patience_ms = 2000;
constexpr unsigned char stop = 0x13, start = 0x11, literal = 0x16;

UniqueFd open_slave(int slave) {
  return open_file(fmt::format("/proc/self/fd/{}", slave), O_RDWR | O_NOCTTY | O_NONBLOCK);
}

bool polls(int fd, short events, int milliseconds = 0) {
  pollfd poll{fd, events, 0};
  check(::poll(&poll, 1, milliseconds), "poll a terminal");
  return (poll.revents & events) != 0;
}

int readable_bytes(int fd) {
  int bytes = 0;
  check(::ioctl(fd, FIONREAD, &bytes), "read the fill of a terminal");
  return bytes;
}

bool is_canonical(const termios2& settings) {
  return (settings.c_lflag & ICANON) != 0 && (settings.c_lflag & EXTPROC) == 0;
}

// Nothing is done to what comes in, nothing is echoed.
termios2 raw(termios2 settings) {
  settings.c_iflag = 0;
  settings.c_oflag = 0;
  settings.c_lflag = 0;
  settings.c_cc[VMIN] = 0;
  settings.c_cc[VTIME] = 0;
  return settings;
}

// The master's descriptor may be a blocking one: nothing is read that is not there. Polling brings in what waits in
// front of the queue.
std::string take_output(int master) {
  std::string all;
  char part[largest_read];
  for (unsigned i = 0; i < most_reads && polls(master, POLLIN) && readable_bytes(master) > 0; i++) {
    const ssize_t n = check(::read(master, part, sizeof part), "read what a terminal's master has not read");
    all.append(part, static_cast<std::size_t>(n));
  }
  return all;
}

// Each read gives one line. A line that was ended by EOF alone reads as nothing.
void take_lines(int slave, Queues& queues) {
  char line[largest_read];
  for (unsigned i = 0; i < most_reads; i++) {
    const ssize_t n = ::read(slave, line, sizeof line);
    if (n < 0 && errno == EAGAIN) return;
    check(n, "read a line that a terminal holds");
    queues.lines.push_back(static_cast<std::uint32_t>(n));
    queues.input.append(line, static_cast<std::size_t>(n));
  }
}

void take_rest(int slave, Queues& queues) {
  char part[largest_read];
  for (unsigned i = 0; i < most_reads; i++) {
    const ssize_t n = ::read(slave, part, sizeof part);
    if (n < 0 && errno != EAGAIN) check(n, "read what a terminal holds");
    if (n <= 0) return;
    queues.input.append(part, static_cast<std::size_t>(n));
  }
}

void write_slowly(int fd, std::string_view bytes) {
  constexpr std::size_t piece = 256;
  while (!bytes.empty()) {
    if (!polls(fd, POLLOUT, patience_ms))
      fail(Errc::no_space, "{} bytes that a terminal held do not fit", bytes.size());
    const ssize_t n = ::write(fd, bytes.data(), std::min(bytes.size(), piece));
    if (n < 0 && errno == EAGAIN) continue;
    bytes.remove_prefix(static_cast<std::size_t>(check(n, "write into a terminal")));
  }
}

void wait_for_bytes(int fd, std::size_t bytes) {
  const int wanted = static_cast<int>(std::min<std::size_t>(bytes, queue_size));
  for (int i = 0; i < patience_ms * 10 && readable_bytes(fd) < wanted; i++) ::usleep(100);
}

// The characters that mean something while lines are put back. Those that end a line are as they were, so that they do;
// the one for EOF is one that nothing else is.
struct Meanings {
  explicit Meanings(const termios2& settings) {
    const bool extended = (settings.c_lflag & IEXTEN) != 0;
    other_end = settings.c_cc[VEOL];
    second_end = extended ? settings.c_cc[VEOL2] : '\0';
    for (const unsigned char c : {4, 5, 6, 7})
      if (c != other_end && c != second_end) end_of_file = c;
  }
  termios2 applied_to(termios2 settings) const {
    settings = raw(settings);
    settings.c_iflag = IXON;
    settings.c_lflag = ICANON | IEXTEN;
    std::ranges::fill(settings.c_cc, '\0');
    settings.c_cc[VEOF] = end_of_file;
    settings.c_cc[VEOL] = other_end;
    settings.c_cc[VEOL2] = second_end;
    settings.c_cc[VLNEXT] = literal;
    settings.c_cc[VSTOP] = stop;
    settings.c_cc[VSTART] = start;
    return settings;
  }
  bool ends_line(unsigned char c) const {
    return c == '\n' || (other_end != 0 && c == other_end) || (second_end != 0 && c == second_end);
  }
  void quote(std::string& out, unsigned char c) const {
    if (ends_line(c) || c == end_of_file || c == literal || c == stop || c == start) out += static_cast<char>(literal);
    out += static_cast<char>(c);
  }

  unsigned char other_end = 0, second_end = 0, end_of_file = 0;
};

// Ctrl-S takes effect when everything before it has been taken in, which nothing else tells.
void put_lines(int master, int slave, const Queues& queues, const termios2& settings) {
  set_settings(slave, Meanings(settings).applied_to(settings));
  write_slowly(master, typed_again(queues, settings));
  write_slowly(master, std::string_view(reinterpret_cast<const char*>(&stop), 1));
  for (int i = 0; i < patience_ms * 10 && polls(slave, POLLOUT); i++) ::usleep(100);
  if (polls(slave, POLLOUT)) fail(Errc::timed_out, "a terminal does not take in what it held");
}

void halt(int master, int slave, image::TtyHalt how, const termios2& settings) {
  if (how == image::TTY_BY_CHARACTER) {
    termios2 stoppable = raw(settings);
    stoppable.c_iflag = IXON;
    stoppable.c_cc[VSTOP] = stop;
    stoppable.c_cc[VSTART] = start;
    set_settings(slave, stoppable);
    write_slowly(master, std::string_view(reinterpret_cast<const char*>(&stop), 1));
    for (int i = 0; i < patience_ms * 10 && polls(slave, POLLOUT); i++) ::usleep(100);
  }
  if (how == image::TTY_BY_CALL) check(::ioctl(slave, TCXONC, TCOOFF), "stop the output of a terminal");
}

// What the master has just written comes in, and its echo is output: a poll sees to that where there are fewer bytes
// than are waited for.
void bring_in(int slave, const termios2& settings) {
  if (!is_canonical(settings)) {
    termios2 patient = settings;
    patient.c_cc[VMIN] = 255;
    patient.c_cc[VTIME] = 0;
    set_settings(slave, patient);
  }
  polls(slave, POLLIN);
  if (!is_canonical(settings)) set_settings(slave, settings);
}

}  // namespace

std::string typed_again(const Queues& queues, const termios2& settings) {
  const Meanings meanings(settings);
  std::string out;
  std::string_view rest = queues.input;
  for (const std::uint32_t length : queues.lines) {
    if (length > rest.size()) fail(Errc::image_corrupt, "tty-data.img: lines of more bytes than there are");
    const std::string_view line = rest.substr(0, length);
    rest.remove_prefix(length);
    const bool ended = !line.empty() && meanings.ends_line(static_cast<unsigned char>(line.back()));
    for (const char c : line.substr(0, line.size() - (ended ? 1 : 0)))
      meanings.quote(out, static_cast<unsigned char>(c));
    out += ended ? line.back() : static_cast<char>(meanings.end_of_file);
  }
  for (const char c : rest) meanings.quote(out, static_cast<unsigned char>(c));
  return out;
}

void refuse_too_many_lines(int slave) {
  if (!is_canonical(settings_of(slave))) return;
  if (const int bytes = readable_bytes(slave); bytes > most_lines)
    fail(Errc::busy, "a terminal holds {} bytes of lines that have not been read yet", bytes);
}

void take(int master, int slave, Queues& queues) {
  const termios2 settings = settings_of(slave);
  const UniqueFd reader = open_slave(slave);
  const int off = 0;
  check(::ioctl(master, TIOCPKT, &off), "end packet mode");
  bring_in(reader.get(), settings);
  queues.output = take_output(master);
  if (!polls(reader.get(), POLLOUT)) {  // with an empty queue: its output is stopped
    termios2 unstoppable = settings;
    unstoppable.c_iflag &= ~static_cast<tcflag_t>(IXON);
    set_settings(reader.get(), unstoppable);
    const bool runs = polls(reader.get(), POLLOUT);
    queues.halt = runs ? image::TTY_BY_CHARACTER : image::TTY_BY_CALL;
    if (!runs) check(::ioctl(reader.get(), TCXONC, TCOON), "let the output of a terminal go on");
  }
  if (is_canonical(settings)) {
    take_lines(reader.get(), queues);
    queues.output += take_output(master);  // the echo of what has come in behind lines
  }
  set_settings(reader.get(), raw(settings));
  take_rest(reader.get(), queues);
}

void put(int master, int slave, const Queues& queues, const termios2& settings) {
  const UniqueFd writer = open_slave(slave);
  termios2 unprocessed = settings;
  unprocessed.c_oflag = 0;
  set_settings(writer.get(), unprocessed);
  write_slowly(writer.get(), queues.output);
  wait_for_bytes(master, queues.output.size());
  if (is_canonical(settings) && (!queues.input.empty() || !queues.lines.empty())) {
    put_lines(master, writer.get(), queues, settings);
    if (queues.halt != image::TTY_BY_CHARACTER) {
      write_slowly(master, std::string_view(reinterpret_cast<const char*>(&start), 1));
      for (int i = 0; i < patience_ms * 10 && !polls(writer.get(), POLLOUT); i++) ::usleep(100);
    }
  } else if (!queues.input.empty()) {
    set_settings(writer.get(), raw(settings));
    write_slowly(master, queues.input);
    wait_for_bytes(writer.get(), queues.input.size());
  }
  if (queues.halt == image::TTY_BY_CHARACTER && polls(writer.get(), POLLOUT))
    halt(master, writer.get(), queues.halt, settings);
  set_settings(writer.get(), settings);
  if (queues.halt == image::TTY_BY_CALL) halt(master, writer.get(), queues.halt, settings);
}

}  // namespace godwit::engine::resources::terminal_queues
