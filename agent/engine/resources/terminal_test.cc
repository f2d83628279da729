#include "agent/engine/resources/pidfd.h"
#include "agent/engine/resources/pseudo_terminal.h"
#include "agent/engine/resources/round_trip.h"
#include "agent/engine/resources/terminal_images.h"
#include "agent/engine/resources/terminal_queues.h"
#include "agent/engine/resources/terminal_restore.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <future>
#include <thread>
#include <vector>

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace godwit::engine::resources {
namespace {

namespace pty = pseudo_terminal;

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int master = 3, slave = 4, current = 5;  // descriptors of the child

int flag(int fd, unsigned long request) {
  int on = -1;
  ::ioctl(fd, request, &on);
  return on;
}

void switch_on(int fd, unsigned long request) {
  const int on = 1;
  check(::ioctl(fd, request, &on), "switch something on");
}

// Without echo, so that what its master is to read is what the slave has written.
void make_terminal(int flags_of_master = O_RDWR) {
  place(::open("/dev/ptmx", flags_of_master | O_NOCTTY), master);
  const int off = 0;
  check(::ioctl(master, TIOCSPTLCK, &off), "unlock the slave");
  place(::ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY), slave);
  termios2 settings = pty::settings_of(slave);
  settings.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  pty::set_settings(slave, settings);
}

// Has come in when this returns, which cannot be said of what the master writes.
void type(std::string_view keys) {
  for (const char key : keys) check(::ioctl(slave, TIOCSTI, &key), "type");
}

// What a dump has to change for a moment.
void set_modes() {
  switch_on(master, TIOCPKT);
  switch_on(master, TIOCSPTLCK);
}

// Both ends, seen from here.
struct Ends {
  explicit Ends(const StoppedChild& child)
      : master(check(pidfd_getfd(child.task().pidfd, resources::master), "copy the master")),
        slave(check(pidfd_getfd(child.task().pidfd, resources::slave), "copy the slave")),
        settings(pty::to_image(pty::settings_of(slave.get())).SerializeAsString()) {}

  // Empty when settings and modes are as they were, and the master has nothing to notice.
  std::string changed() const {
    pollfd poll{master.get(), POLLPRI, 0};
    ::poll(&poll, 1, 0);
    return differs("settings", true, settings == pty::to_image(pty::settings_of(slave.get())).SerializeAsString())
           << differs("packet mode", 1, flag(master.get(), TIOCGPKT))
           << differs("lock", 1, flag(master.get(), TIOCGPTLCK)) << differs("event", 0, poll.revents & POLLPRI);
  }

  UniqueFd master, slave;
  std::string settings;
};

std::vector<std::string> lines_of(const Ends& ends) {
  std::vector<std::string> lines;
  for (std::string line; !(line = now_or_never(ends.slave.get(), 4096)).empty();) lines.push_back(line);
  return lines;
}

class TerminalTest : public testing::Test {
 protected:
  // A process looks only once where its faults are.
  static void SetUpTestSuite() { ::setenv("GODWIT_FAULT_FILE", fault_file().c_str(), 1); }
  static std::string fault_file() { return fmt::format("/tmp/godwit-terminal-fault-{}", ::getpid()); }
};

TEST(Terminals, have_a_number_that_is_only_just_given_back) {
  UniqueFd former = open_file("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  unsigned number = 0;
  check(::ioctl(former.get(), TIOCGPTN, &number), "read the number of a terminal");
  auto closing = std::async(std::launch::async, [&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    former.reset();
  });
  Terminals terminals;
  terminals.make(number);
  closing.get();
}

TEST(Terminals, have_echoed_what_was_only_just_typed_when_it_is_taken_out) {
  for (int i = 0; i < 200; i++) {
    const UniqueFd master = open_file("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    const int off = 0;
    check(::ioctl(master.get(), TIOCSPTLCK, &off), "unlock the slave");
    const UniqueFd slave(check(::ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY), "open the slave"));
    write_all(master.get(), "abc");
    terminal_queues::Queues queues;
    terminal_queues::take(master.get(), slave.get(), queues);
    ASSERT_EQ(queues.output, "abc") << "time " << i;
    ASSERT_EQ(queues.input, "abc") << "time " << i;
  }
}

TEST(Terminals, have_echoed_what_was_only_just_typed_behind_what_has_not_been_read) {
  for (const bool canonical : {true, false})
    for (int i = 0; i < 100; i++) {
      const UniqueFd master = open_file("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
      const int off = 0;
      check(::ioctl(master.get(), TIOCSPTLCK, &off), "unlock the slave");
      const UniqueFd slave(check(::ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY), "open the slave"));
      termios2 settings{};
      check(::ioctl(slave.get(), TCGETS2, &settings), "read the settings");
      settings.c_oflag = 0;
      if (!canonical) settings.c_lflag &= ~static_cast<tcflag_t>(ICANON);
      check(::ioctl(slave.get(), TCSETS2, &settings), "set the settings");
      const std::string unread = canonical ? "one\n" : "one";
      write_all(master.get(), unread);
      pollfd readable{.fd = slave.get(), .events = POLLIN, .revents = 0};
      ASSERT_EQ(::poll(&readable, 1, 5000), 1);
      write_all(master.get(), "abc");
      terminal_queues::Queues queues;
      terminal_queues::take(master.get(), slave.get(), queues);
      ASSERT_EQ(queues.output, unread + "abc") << "time " << i << (canonical ? ", by lines" : ", by characters");
      ASSERT_EQ(queues.input, unread + "abc") << "time " << i << (canonical ? ", by lines" : ", by characters");
    }
}

TEST(Terminals, may_be_wanted_in_any_order) {
  std::array<unsigned, 3> free{};
  {
    std::vector<UniqueFd> masters;
    for (unsigned& number : free) {
      masters.push_back(open_file("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
      check(::ioctl(masters.back().get(), TIOCGPTN, &number), "read the number of a terminal");
    }
  }
  Terminals terminals;
  for (const unsigned index : {free[2], free[0], free[1]}) {
    terminals.make(index);
    EXPECT_TRUE(terminals.open(index, O_RDWR));
  }
}

TEST_F(TerminalTest, that_is_known_as_dev_tty_is_not_taken_for_its_slave) {
  const StoppedChild child([] {
    check(::setsid(), "begin a session");
    make_terminal();
    check(::ioctl(slave, TIOCSCTTY, 0), "make it the session's");
    check(::fchmod(slave, 0604), "set its mode");
    type("typed\n");
    place(::open("/dev/tty", O_RDWR | O_NOCTTY), current);
    ::close(slave);
  });
  const Dumped dumped = dump_table(child);
  auto infos = dumped.images.records<image::TtyInfoEntry>(image::Kind::tty_info);
  ASSERT_EQ(infos.size(), 3u);
  for (const image::TtyInfoEntry& info : infos) {
    if (info.type() == image::TTY_CURRENT) continue;
    EXPECT_EQ(info.mode(), 0604u);
    EXPECT_TRUE(info.was_open());
  }
  const auto as_current = std::ranges::find(infos, image::TTY_CURRENT, &image::TtyInfoEntry::type);
  ASSERT_NE(as_current, infos.end());
  EXPECT_FALSE(as_current->has_pty());  // as CRIU wants it, and with an id that it takes
  EXPECT_LE(as_current->id(), 2048u);
  EXPECT_TRUE(as_current->has_termios() && as_current->has_termios_locked() && as_current->has_winsize());
  const unsigned index = infos[0].pty().index();
  EXPECT_EQ(current_index(*as_current, infos), index);
  as_current->clear_current_index();  // as CRIU and crit write it
  EXPECT_EQ(current_index(*as_current, infos), index);
  as_current->set_sid(as_current->sid() + 1);
  EXPECT_EQ(current_index(*as_current, infos), std::nullopt);
  const auto queued = dumped.images.records<image::TtyDataEntry>(image::Kind::tty_data);
  ASSERT_EQ(queued.size(), 1u);
  EXPECT_EQ(queued[0].data(), "typed\n");
}

TEST_F(TerminalTest, gets_back_what_was_taken_out_when_a_dump_fails) {
  const StoppedChild child([] {
    make_terminal();
    check(::write(slave, "said\n", 5), "write");
    type("one\ntwo\nthr");
    set_modes();
  });
  const Ends ends(child);
  write_file(fault_file(), "engine.dump.terminal=fail");
  EXPECT_THROW(dump_table(child), Error);
  EXPECT_NE(::access(fault_file().c_str(), F_OK), 0) << "it has failed elsewhere";
  EXPECT_EQ(ends.changed(), "");
  EXPECT_THAT(lines_of(ends), ElementsAre("one\n", "two\n"));
  EXPECT_EQ(now_or_never(ends.master.get(), 100), std::string("\0said\r\n", 7));
}

TEST_F(TerminalTest, gets_its_settings_back_when_nothing_can_be_typed_again) {
  const StoppedChild child([] {
    make_terminal(O_RDONLY);
    type("line\n");
    set_modes();
  });
  const Ends ends(child);
  EXPECT_THROW(dump_table(child), Error);
  EXPECT_EQ(ends.changed(), "");
}

TEST_F(TerminalTest, keeps_its_lines_when_its_output_cannot_be_taken_out) {
  const StoppedChild child([] {
    make_terminal(O_WRONLY);
    check(::write(slave, "said", 4), "write");
    type("one\ntwo\n");
    set_modes();
  });
  const Ends ends(child);
  EXPECT_THROW(dump_table(child), Error);
  EXPECT_EQ(ends.changed(), "");
  EXPECT_EQ(flag(ends.master.get(), FIONREAD), 4);
  EXPECT_THAT(lines_of(ends), ElementsAre("one\n", "two\n"));
}

TEST_F(TerminalTest, that_is_full_of_lines_is_busy_and_keeps_them) {
  const std::string line = std::string(99, 'l') + "\n";
  const StoppedChild child([&] {
    make_terminal();
    for (int i = 0; i < 21; i++) type(line);
    set_modes();
  });
  const Ends ends(child);
  try {
    dump_table(child);
    ADD_FAILURE() << "it was dumped";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::busy);
    EXPECT_THAT(e.message(), HasSubstr("2100 bytes of lines"));
  }
  EXPECT_EQ(ends.changed(), "");
  EXPECT_EQ(lines_of(ends), std::vector<std::string>(21, line));
}

TEST_F(TerminalTest, from_outside_is_described_only_for_a_shell_job) {
  UniqueFd outside(::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  const int off = 0;
  check(::ioctl(outside.get(), TIOCSPTLCK, &off), "unlock the slave");
  const winsize size{33, 70, 0, 0};
  check(::ioctl(outside.get(), TIOCSWINSZ, &size), "set the size");
  unsigned number = 0;
  check(::ioctl(outside.get(), TIOCGPTN, &number), "ask for the number");
  const StoppedChild child([&] {
    place(::open(pty::path_of(number).c_str(), O_RDWR | O_NOCTTY), slave);
    type("typed\n");
  });
  EXPECT_THROW(dump_table(child), Error);
  const Dumped dumped = dump_table(child, {.shell_job = true});
  const auto infos = dumped.images.records<image::TtyInfoEntry>(image::Kind::tty_info);
  ASSERT_EQ(infos.size(), 1u);
  EXPECT_EQ(infos[0].type(), image::TTY_PTY);
  EXPECT_EQ(infos[0].id(), infos[0].pty().index() * 2);
  EXPECT_EQ(infos[0].rdev(), makedev(136, infos[0].pty().index()));
  EXPECT_EQ(infos[0].winsize().ws_row(), 33u);
  EXPECT_FALSE(infos[0].has_mode());
  EXPECT_FALSE(dumped.images.has(image::Kind::tty_data)) << "what is queued stays where it is";
  pollfd poll{outside.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&poll, 1, 0), 1) << "and so it does: the echo";
}

TEST_F(TerminalTest, takes_2048_bytes_of_lines_along) {
  const std::string line = std::string(127, 'l') + "\n";
  EXPECT_EQ("", round_trip(
                    [&] {
                      make_terminal();
                      for (int i = 0; i < 16; i++) type(line);
                    },
                    [&] {
                      std::string wrong;
                      for (int i = 0; i < 16; i++) wrong += differs("line", line, now_or_never(slave, 4096));
                      return wrong << differs("rest", "", now_or_never(slave, 4096));
                    }));
}

}  // namespace
}  // namespace godwit::engine::resources
