#include "pageserver/store/appender.h"

#include "common/base/fd.h"
#include "pageserver/store/page_appender.h"
#include "pageserver/store/pwrite_appender.h"
#include "pageserver/store/uring_appender.h"

#include "common/pagewire/wire.h"
#include "tests/support/forbid.h"

#include <gtest/gtest.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace godwit::pageserver {
namespace {

std::string fill(Appender& appender) {
  std::string all;
  for (int i = 1; i <= 300; ++i) {
    std::vector<std::string> texts;
    for (int k = 0; k < i % 7; ++k)
      texts.push_back(std::string(static_cast<std::size_t>(i * 53 % 30000), static_cast<char>('a' + k)));
    std::vector<Piece> pieces;
    for (const std::string& t : texts) pieces.push_back(std::as_bytes(std::span(t)));
    appender.append(pieces);
    for (const std::string& t : texts) all += t;
    if (i % 100 == 0) {
      appender.settle();
      EXPECT_EQ(appender.stored(), all.size());
    }
  }
  appender.settle();
  EXPECT_EQ(appender.stored(), all.size());
  return all;
}

UniqueFd temporary_file(const char* directory) {
  return UniqueFd(check(::open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), "make a file in {}", directory));
}
UniqueFd duplicate(const UniqueFd& fd) { return UniqueFd(check(::dup(fd.get()), "dup")); }

bool holds(int fd, const std::string& text) {
  std::string content(text.size(), '\0');
  pread_exact(fd, std::as_writable_bytes(std::span(content)), 0);
  return content == text;
}

TEST(PwriteAppender, appends_pieces_in_order) {
  const UniqueFd file = temporary_file("/dev/shm");
  PwriteAppender appender(duplicate(file), 0);
  const std::string text = fill(appender);
  EXPECT_TRUE(holds(file.get(), text));
}

TEST(PageAppender, appends_pieces_in_order) {
  const UniqueFd file = temporary_file("/dev/shm");
  PageAppender appender(duplicate(file));
  const std::string text = fill(appender);
  appender.sync();
  EXPECT_TRUE(holds(file.get(), text));
}

TEST(PwriteAppender, writes_a_ring_over_and_over) {
  const UniqueFd file = temporary_file("/dev/shm");
  constexpr std::uint64_t window = 8192;
  PwriteAppender appender(duplicate(file), window);
  std::string all;
  for (std::size_t length : {5000, 1, 3191, 8000, 8192, 20000, 7}) {
    const std::string text(length, static_cast<char>('a' + all.size() % 26));
    const std::array<Piece, 2> pieces{std::as_bytes(std::span(text)).first(length / 2),
                                      std::as_bytes(std::span(text)).subspan(length / 2)};
    appender.append(pieces);
    all += text;
    ASSERT_EQ(appender.stored(), all.size());
    std::string last(std::min<std::size_t>(all.size(), window), ' ');
    const std::uint64_t from = all.size() - last.size();
    const pagewire::SpoolPlace place = pagewire::spool_place(window, from, last.size());
    const auto into = std::as_writable_bytes(std::span(last));
    pread_exact(file.get(), into.first(place.first_length), static_cast<off_t>(place.first));
    pread_exact(file.get(), into.subspan(place.first_length), 0);
    EXPECT_EQ(last, all.substr(from));
  }
}

TEST(UringAppender, appends_pieces_in_order) {
  const UniqueFd file = temporary_file("/tmp");
  UniqueFd mine = duplicate(file);
  const auto appender = UringAppender::create(mine);
  if (!appender) GTEST_SKIP() << "io_uring is not available";
  const std::string text = fill(*appender);
  EXPECT_TRUE(holds(file.get(), text));
}

// Ends its process: a file size limit comes with a signal and stays.
void write_beyond_limit(bool ring) {
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{1 << 20, 1 << 20};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  UniqueFd file = temporary_file("/tmp");
  std::unique_ptr<Appender> appender;
  if (ring) appender = UringAppender::create(file);
  if (!appender) appender = std::make_unique<PwriteAppender>(std::move(file), 0);
  const std::vector<std::byte> big(2 << 20);
  const Piece piece(big);
  try {
    appender->append({&piece, 1});
    appender->settle();
  } catch (const Error&) {
    ::_exit(7);
  }
  ::_exit(0);
}

TEST(Appender, says_when_a_write_fails) {
  for (const bool ring : {false, true}) EXPECT_EXIT(write_beyond_limit(ring), testing::ExitedWithCode(7), "") << ring;
}

class Choice : public testing::Test {
 protected:
  ~Choice() override {
    for (const std::string& name : made_) std::filesystem::remove_all(name);
  }
  // Whether there is such a place.
  bool go_to(bool memory) {
    for (const std::string top : {"/dev/shm", "/tmp", "/var/tmp", "."}) {
      std::string name = top + "/appender-XXXXXX";
      if (!::mkdtemp(name.data())) continue;
      made_.push_back(name);
      directory_ = open_file(name, O_DIRECTORY | O_RDONLY);
      if (in_memory(directory_.get()) == memory) return true;
    }
    return false;
  }
  std::unique_ptr<Appender> chosen(std::uint64_t window = 0) { return create_appender(directory_.get(), "x", window); }
  bool writes(Appender& appender) {
    const std::string text = fill(appender);
    appender.sync();
    return holds(open_at(directory_.get(), "x", O_RDONLY).get(), text);
  }

 private:
  UniqueFd directory_;
  std::vector<std::string> made_;
};

template <class Kind>
bool is(const std::unique_ptr<Appender>& appender) {
  return dynamic_cast<Kind*>(appender.get()) != nullptr;
}

TEST_F(Choice, what_grows_in_memory_is_a_page_file) {
  if (!go_to(true)) GTEST_SKIP() << "nothing is in memory";
  const auto appender = chosen();
  EXPECT_TRUE(is<PageAppender>(appender));
  EXPECT_TRUE(writes(*appender));
}

TEST_F(Choice, a_ring_is_written_plainly) {
  if (!go_to(true)) GTEST_SKIP() << "nothing is in memory";
  EXPECT_TRUE(is<PwriteAppender>(chosen(8192)));
}

TEST_F(Choice, a_disk_is_written_by_io_uring) {
  UniqueFd probe = temporary_file("/tmp");
  if (!go_to(false) || !UringAppender::create(probe)) GTEST_SKIP() << "there is no disk, or no io_uring";
  const auto appender = chosen();
  EXPECT_TRUE(is<UringAppender>(appender));
  EXPECT_TRUE(writes(*appender));
}

TEST_F(Choice, a_disk_is_written_plainly_where_io_uring_is_forbidden) {
  if (!go_to(false)) GTEST_SKIP() << "there is no disk";
  const auto write_without = [this] {
    test::forbid(SYS_io_uring_setup);
    const auto appender = chosen();
    ::_exit(!is<PwriteAppender>(appender) ? 1 : !writes(*appender) ? 2 : 0);
  };
  EXPECT_EXIT(write_without(), testing::ExitedWithCode(0), "");
}

TEST(Appender, does_not_write_to_a_file_that_exists) {
  const std::string directory = testing::TempDir() + "/appender";
  ::mkdir(directory.c_str(), 0700);
  const UniqueFd dir = open_file(directory, O_DIRECTORY | O_RDONLY);
  create_appender(dir.get(), "stream-0");
  EXPECT_THROW(create_appender(dir.get(), "stream-0"), Error);
  ::unlinkat(dir.get(), "stream-0", 0);
  ::rmdir(directory.c_str());
}

}  // namespace
}  // namespace godwit::pageserver
