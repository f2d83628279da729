// godwit-engine restore on images that are damaged, forged or incomplete: an error that names file and offset, no
// crash, no process left.

#include "tests/engine/harness.h"

#include "common/base/check.h"
#include "common/base/units.h"
#include "common/image/core.pb.h"
#include "common/image/image_set.h"
#include "common/image/inventory.pb.h"
#include "common/image/mm.pb.h"
#include "common/image/pagemap.h"
#include "common/image/pagemap.pb.h"
#include "common/image/vma_status.h"
#include "common/proc/reader.h"

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <random>
#include <set>

#include <sys/prctl.h>
#include <sys/wait.h>

namespace godwit::engine::test {
namespace {

namespace fs = std::filesystem;

constexpr int flips_per_file = 4;

class ImagesTest : public ::testing::Test {
 protected:
  // One dump of a small program, which every test damages a copy of.
  static void SetUpTestSuite() {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    good_ = std::make_unique<TempDir>();
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::setsid();
      const int null = ::open("/dev/null", O_RDWR);
      for (int fd = 0; fd < 3; fd++) ::dup2(null, fd);
      ::close_range(3, ~0u, 0);
      ::chdir("/");
      ::execlp("sleep", "sleep", "1000", nullptr);
      ::_exit(127);
    }
    pid_ = pid;
    ASSERT_TRUE(wait_for([&] { return contents(fmt::format("/proc/{}/comm", pid)) == "sleep\n"; }));
    ::usleep(100'000);
    for (const proc::Vma& vma : proc::Reader(pid).maps()) mapped_.insert(vma.start);
    const Ran dumped = run_engine({"dump", "-t", std::to_string(pid), "-D", good_->path("set")});
    ASSERT_TRUE(dumped.ok()) << dumped.output;
    ::waitpid(pid, nullptr, 0);
  }
  static void TearDownTestSuite() { good_.reset(); }

  void SetUp() override { fs::copy(good_->path("set"), set_, fs::copy_options::recursive); }

  static std::vector<std::string> state_images() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(good_->path("set"))) {
      const auto known = image::parse_file_name(entry.path().filename().string());
      if (known && known->kind != image::Kind::pages && known->kind != image::Kind::stats_dump)
        names.push_back(entry.path().filename().string());
    }
    std::ranges::sort(names);
    return names;
  }
  std::string path(const std::string& name) const { return set_ + "/" + name; }
  void put_back(const std::string& name) {
    fs::copy_file(good_->path("set/" + name), path(name), fs::copy_options::overwrite_existing);
  }
  std::string pagemap() const { return image::file_name(image::Kind::pagemap, static_cast<std::uint64_t>(pid_)); }

  Ran restore() { return run_engine({"restore", "-d", "-D", set_}); }

  // Restored or not: nothing of it is there afterwards, and when it failed nothing was there at all.
  void expect_sound(const Ran& ran) {
    ASSERT_TRUE(WIFEXITED(ran.status)) << ran.output;
    ASSERT_LT(WEXITSTATUS(ran.status), 64) << ran.output;
    ASSERT_EQ(ran.output.find("Sanitizer"), std::string::npos) << ran.output;
    const proc::Reader self(::getpid());
    if (ran.ok())
      for (const pid_t child : self.children()) ::kill(child, SIGKILL);
    EXPECT_TRUE(wait_for([&] {
      while (::waitpid(-1, nullptr, WNOHANG) > 0) {
      }
      return self.children().empty();
    })) << "a process is left: "
        << ran.output;
  }
  void expect_refused(const std::string& file, const std::string& what = {}) {
    const Ran ran = restore();
    expect_sound(ran);
    EXPECT_FALSE(ran.ok()) << "restored with a bad " << file;
    EXPECT_NE(ran.output.find(file), std::string::npos) << ran.output;
    EXPECT_NE(ran.output.find(what), std::string::npos) << ran.output;
  }

  static std::unique_ptr<TempDir> good_;
  static inline std::set<std::uint64_t> mapped_;  // where the program's mappings began
  static pid_t pid_;
  TempDir dir_;
  std::string set_ = dir_.path("set");
};

std::unique_ptr<TempDir> ImagesTest::good_;
pid_t ImagesTest::pid_ = 0;

TEST_F(ImagesTest, the_good_set_restores) {
  const Ran ran = restore();
  EXPECT_TRUE(ran.ok()) << ran.output;
  expect_sound(ran);
}

TEST_F(ImagesTest, have_no_mapping_of_the_engines_own) {
  const auto images = image::ImageSet::load(open_file(set_, O_RDONLY | O_DIRECTORY).get());
  const auto mm = images.get<image::MmEntry>(image::Kind::mm, static_cast<std::uint64_t>(pid_));
  ASSERT_GT(mm.vmas_size(), 0);
  for (const auto& vma : mm.vmas()) EXPECT_TRUE(mapped_.contains(vma.start())) << fmt::format("{:#x}", vma.start());
}

TEST_F(ImagesTest, truncated_images_are_named_with_the_offset) {
  for (const std::string& name : state_images()) {
    const auto size = fs::file_size(path(name));
    for (const std::uintmax_t keep : {std::uintmax_t{3}, size - 1}) {
      SCOPED_TRACE(fmt::format("{} of {} bytes of {}", keep, size, name));
      fs::resize_file(path(name), keep);
      expect_refused(name, "offset");
    }
    put_back(name);
  }
}

TEST_F(ImagesTest, wrong_magics_are_named) {
  for (const std::string& name : state_images()) {
    SCOPED_TRACE(name);
    std::string bytes = read_file(path(name));
    bytes[bytes.size() > 8 && name != "inventory.img" ? 4 : 0] ^= 0x40;
    write_file(path(name), bytes);
    expect_refused(name, "magic");
    put_back(name);
  }
}

TEST_F(ImagesTest, no_flipped_bit_brings_the_engine_down) {
  std::mt19937 random(17);
  for (const std::string& name : state_images())
    for (int i = 0; i < flips_per_file; i++) {
      std::string bytes = read_file(path(name));
      const std::size_t at = random() % bytes.size();
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
      SCOPED_TRACE(fmt::format("{} at {}", name, at));
      write_file(path(name), bytes);
      expect_sound(restore());
      put_back(name);
    }
}

TEST_F(ImagesTest, another_version_or_machine_is_refused) {
  image::ImageSet set = image::ImageSet::load(open_file(set_, O_RDONLY | O_DIRECTORY).get());
  auto inventory = set.get<image::InventoryEntry>(image::Kind::inventory);
  inventory.set_img_version(1);
  image::ImageSet changed;
  changed.put(image::Kind::inventory, 0, inventory);
  changed.save(open_file(set_, O_RDONLY | O_DIRECTORY).get());
  expect_refused("inventory.img", "version 1");
  put_back("inventory.img");

  const auto tid = static_cast<std::uint64_t>(pid_);
  auto core = set.get<image::CoreEntry>(image::Kind::core, tid);
  core.set_mtype(image::CoreEntry::AARCH64);
  changed = {};
  changed.put(image::Kind::core, tid, core);
  changed.save(open_file(set_, O_RDONLY | O_DIRECTORY).get());
  expect_refused(image::file_name(image::Kind::core, tid), "AARCH64");
}

TEST_F(ImagesTest, missing_images_are_named) {
  for (const std::string& name : {std::string("inventory.img"), std::string("pstree.img"), pagemap()}) {
    fs::remove(path(name));
    expect_refused(name);
    put_back(name);
  }
}

TEST_F(ImagesTest, a_record_of_four_gigabytes_is_not_believed) {
  std::string bytes = read_file(path(pagemap()));
  bytes.replace(8, 4, "\xff\xff\xff\xff");
  write_file(path(pagemap()), bytes);
  expect_refused(pagemap(), "offset 8");
}

TEST_F(ImagesTest, a_pagemap_out_of_order_is_refused) {
  const image::Pagemap map = image::read_pagemap(pagemap(), read_file(path(pagemap())));
  ASSERT_GE(map.runs.size(), 2u);
  std::string bytes = image::header(image::Kind::pagemap);
  image::PagemapHead head;
  head.set_pages_id(map.pages_id);
  image::append_record(bytes, head);
  for (const std::size_t i : {1, 0}) {
    image::PagemapEntry entry;
    entry.set_vaddr(map.runs[i].vaddr);
    entry.set_compat_nr_pages(static_cast<std::uint32_t>(map.runs[i].pages));
    entry.set_flags(map.runs[i].flags);
    image::append_record(bytes, entry);
  }
  write_file(path(pagemap()), bytes);
  expect_refused(pagemap(), "offset");
}

TEST_F(ImagesTest, pages_that_a_dedup_has_freed_are_refused) {
  const UniqueFd pages = open_file(path("pages-1.img"), O_RDWR);
  check(::fallocate(pages.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page_size, page_size), "punch");
  expect_refused("pages-1.img", fmt::format("offset {}", page_size));
}

TEST_F(ImagesTest, pages_that_are_cut_off_are_refused) {
  fs::resize_file(path("pages-1.img"), page_size);
  expect_refused("pages-1.img");
}

class ParentsTest : public ImagesTest {
 protected:
  // The whole set becomes the parent of one that says that nothing has changed.
  void SetUp() override {
    ImagesTest::SetUp();
    fs::rename(set_, parent_);
    fs::create_directory(set_);
    for (const std::string& name : state_images()) fs::copy_file(parent_ + "/" + name, path(name));
    fs::create_symlink("../parent", path("parent"));
    const image::Pagemap map = image::read_pagemap(pagemap(), read_file(path(pagemap())));
    image::PagemapWriter writer(1);
    for (const image::PageRun& run : map.runs) writer.add(run.vaddr, run.pages, image::PageFlag::parent);
    write_file(path(pagemap()), writer.finish());
    write_file(path("pages-1.img"), "");
  }
  std::string parent_ = dir_.path("parent");
};

TEST_F(ParentsTest, the_child_restores) {
  const Ran ran = restore();
  EXPECT_TRUE(ran.ok()) << ran.output;
  expect_sound(ran);
}

TEST_F(ParentsTest, a_missing_parent_is_named) {
  fs::remove(path("parent"));
  expect_refused(pagemap(), "no parent");
}

TEST_F(ParentsTest, a_parent_that_has_gone_is_named) {
  fs::remove_all(parent_);
  expect_refused(pagemap(), "parent leads to ../parent, where nothing is");
}

TEST_F(ParentsTest, a_circle_of_parents_is_named) {
  fs::remove(path("parent"));
  fs::create_symlink(".", path("parent"));
  expect_refused("parent", "leads back");
}

TEST_F(ParentsTest, a_page_that_no_parent_has_is_named) {
  const image::Pagemap map = image::read_pagemap(pagemap(), read_file(parent_ + "/" + pagemap()));
  image::PagemapWriter writer(1);
  for (std::size_t i = 1; i < map.runs.size(); i++)
    writer.add(map.runs[i].vaddr, map.runs[i].pages, image::PageFlag::present);
  write_file(parent_ + "/" + pagemap(), writer.finish());
  expect_refused("parent/" + pagemap(), fmt::format("{:#x}", map.runs[0].vaddr));
}

TEST_F(ParentsTest, a_freed_page_of_a_parent_is_named) {
  const UniqueFd pages = open_file(parent_ + "/pages-1.img", O_RDWR);
  check(::fallocate(pages.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, page_size), "punch");
  expect_refused("parent/pages-1.img", "offset 0");
}

// What the kernel maps of its own is looked at in every process, not in the first one only.
TEST(KernelAreas, that_lie_otherwise_are_refused_in_whichever_process) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const TempDir dir;
  const std::string set = dir.path("set");
  const pid_t parent = ::fork();
  if (parent == 0) {
    ::setsid();
    const int null = ::open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) ::dup2(null, fd);
    ::close_range(3, ~0u, 0);
    ::chdir("/");
    ::execlp("sh", "sh", "-c", "sleep 1000 & exec sleep 1001", nullptr);
    ::_exit(127);
  }
  std::vector<pid_t> both;
  ASSERT_TRUE(wait_for([&] {
    both = {parent};
    std::ranges::copy(proc::Reader(parent).children(), std::back_inserter(both));
    return both.size() == 2 && std::ranges::all_of(both, [](pid_t pid) {
             return contents(fmt::format("/proc/{}/comm", pid)) == "sleep\n";
           });
  }));
  ::usleep(100'000);
  const Ran dumped = run_engine({"dump", "-t", std::to_string(parent), "-D", set});
  ASSERT_TRUE(dumped.ok()) << dumped.output;
  for (const pid_t pid : both) ::waitpid(pid, nullptr, 0);

  for (const pid_t pid : both) {
    const UniqueFd fd = open_file(set, O_RDONLY | O_DIRECTORY);
    const std::string name = image::file_name(image::Kind::mm, static_cast<std::uint64_t>(pid));
    const std::string good = read_file(set + "/" + name);
    image::ImageSet images = image::ImageSet::load(fd.get());
    auto mm = images.get<image::MmEntry>(image::Kind::mm, static_cast<std::uint64_t>(pid));
    // The kernel puts the vdso behind it: a page further on.
    const auto vvar =
        std::ranges::find_if(*mm.mutable_vmas(), [](const auto& e) { return e.status() & image::vma_status::vvar; });
    ASSERT_NE(vvar, mm.mutable_vmas()->end());
    vvar->set_start(vvar->start() + page_size);
    images = {};
    images.put(image::Kind::mm, static_cast<std::uint64_t>(pid), mm);
    images.save(fd.get());
    const Ran ran = run_engine({"restore", "-d", "-D", set});
    EXPECT_FALSE(ran.ok());
    EXPECT_NE(ran.output.find("vdso does not have the layout"), std::string::npos) << ran.output;
    EXPECT_TRUE(wait_for([&] {  // what was made of them has ended, and comes to us
      while (::waitpid(-1, nullptr, WNOHANG) > 0) {
      }
      return std::ranges::none_of(both, [](pid_t made) { return ::kill(made, 0) == 0; });
    }));
    write_file(set + "/" + name, good, 0600);
  }
  const Ran restored = run_engine({"restore", "-d", "-D", set});
  EXPECT_TRUE(restored.ok()) << restored.output;
  for (const pid_t pid : both) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

}  // namespace
}  // namespace godwit::engine::test
