#include "agent/engine/restore/process_plan.h"

#include "common/base/error.h"
#include "common/image/core.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/task_state.h"

#include <csignal>
#include <functional>

#include <gtest/gtest.h>

namespace godwit::engine {
namespace {

using Change = std::function<void(std::vector<image::PstreeEntry>&)>;

image::PstreeEntry process(std::uint32_t pid, std::uint32_t parent) {
  image::PstreeEntry entry;
  entry.set_pid(pid);
  entry.set_ppid(parent);
  entry.set_pgid(10);
  entry.set_sid(10);
  entry.add_threads(pid);
  return entry;
}

void name(image::PstreeEntry& entry, std::uint32_t pid, std::initializer_list<std::uint32_t> inner) {
  image::InnerPid& added = *entry.add_inner();
  added.set_pid(pid);
  for (const std::uint32_t number : inner) added.add_inner(number);
}

// The root, the init of a namespace, one of its children with two threads, and the init of a namespace in that.
TreePlan nested(const Change& change = {}) {
  std::vector<image::PstreeEntry> all{process(10, 0), process(20, 10), process(30, 20), process(40, 30)};
  for (const int i : {1, 2}) all[static_cast<std::size_t>(i)].set_pid_namespace(20);
  all[0].set_pid_namespace_for_children(20);
  name(all[1], 20, {1});
  name(all[2], 30, {2});
  all[2].add_threads(31);
  name(all[2], 31, {3});
  all[3].set_pid_namespace(40);
  name(all[3], 40, {4, 1});
  if (change) change(all);
  image::ImageSet images;
  for (const image::PstreeEntry& entry : all) images.append(image::Kind::pstree, 0, entry);
  return read_tree(images);
}

TEST(ProcessPlan, KnowsTheNamesInNestedNamespaces) {
  const TreePlan tree = nested();
  EXPECT_EQ(tree[0].init_of_children, 20);
  EXPECT_EQ(tree[0].names_of(10), std::vector<pid_t>{10});
  EXPECT_TRUE(tree[1].makes_namespace());
  EXPECT_FALSE(tree[2].makes_namespace());
  EXPECT_EQ(tree[2].names_of(31), (std::vector<pid_t>{31, 3}));
  EXPECT_EQ(tree[3].names_of(40), (std::vector<pid_t>{40, 4, 1}));
}

TEST(ProcessPlan, RefusesNamespacesThatNobodyCanMake) {
  using Tree = std::vector<image::PstreeEntry>;
  const Change wrong[] = {
      [](Tree& t) { t[1].clear_pid_namespace(); },                      // a name, and no namespace for it
      [](Tree& t) { t[1].clear_inner(); },                              // the other way round
      [](Tree& t) { t[1].mutable_inner(0)->set_inner(0, 5); },          // an init that is not 1
      [](Tree& t) { t[2].set_pid_namespace(40); },                      // whose init comes later
      [](Tree& t) { t[2].mutable_inner(0)->add_inner(7); },             // deeper than its init
      [](Tree& t) { t[2].mutable_inner(1)->clear_inner(); },            // a thread without a name
      [](Tree& t) { t[2].mutable_inner(1)->set_inner(0, 1u << 30); },   // that is no PID
      [](Tree& t) { t[3].set_ppid(10); },                               // two levels at once
      [](Tree& t) { t[3].clear_pid_namespace(), t[3].clear_inner(); },  // back in the root's
      [](Tree& t) { t[0].set_pid_namespace_for_children(30); },         // no init
      [](Tree& t) { t[0].set_pid_namespace_for_children(40); },         // not its own child
      [](Tree& t) {                                                     // nobody's child
        t[1].set_ppid(0);
        t[0].clear_pid_namespace_for_children();
      },
  };
  for (const Change& change : wrong) try {
      nested(change);
      ADD_FAILURE() << "change " << (&change - wrong) << " is taken";
    } catch (const Error& e) {
      EXPECT_EQ(e.errc(), Errc::image_corrupt) << e.what();
    }
}

// That of `pid` has come with this status of wait(2).
Errc verdict_on_end(pid_t pid, std::uint32_t status) {
  image::ImageSet images;
  TreePlan tree = nested();
  for (ProcessPlan& p : tree) {
    p.dead = p.pid == pid;
    image::CoreEntry core;
    core.set_mtype(image::CoreEntry::X86_64);
    core.mutable_tc()->set_personality(0);
    core.mutable_tc()->set_flags(0);
    core.mutable_tc()->set_blk_sigset(0);
    core.mutable_tc()->set_comm("test");
    core.mutable_tc()->set_task_state(p.dead ? image::task_state::dead : image::task_state::alive);
    core.mutable_tc()->set_exit_code(p.dead ? status : 0);
    images.put(image::Kind::core, static_cast<std::uint64_t>(p.pid), core);
  }
  try {
    check_ends(images, tree);
    return {};
  } catch (const Error& e) {
    return e.errc();
  }
}

TEST(ProcessPlan, RefusesEndsThatNobodyComesTo) {
  EXPECT_EQ(verdict_on_end(40, 7 << 8), Errc{});
  EXPECT_EQ(verdict_on_end(40, SIGKILL), Errc{});
  EXPECT_EQ(verdict_on_end(40, SIGTERM), Errc::image_corrupt);  // an init
  EXPECT_EQ(verdict_on_end(30, 7 << 8), Errc::image_corrupt);   // with a child
}

TEST(ProcessPlan, KnowsWhoseMemoryAProcessUses) {
  const auto read = [](std::uint32_t memory_of) {
    std::vector<image::PstreeEntry> all{process(10, 0), process(20, 10), process(30, 20)};
    all[1].set_memory_of(10);
    all[1].set_born_with_handlers(true);
    all[2].set_memory_of(memory_of);
    image::ImageSet images;
    for (const image::PstreeEntry& entry : all) images.append(image::Kind::pstree, 0, entry);
    return read_tree(images);
  };
  const TreePlan tree = read(10);
  EXPECT_EQ(tree[0].memory_of, 0);
  EXPECT_EQ(tree[1].memory_of, 10);
  EXPECT_TRUE(tree[1].with_handlers);
  EXPECT_EQ(tree[2].memory_of, 10);
  EXPECT_FALSE(tree[2].with_handlers);
  for (const std::uint32_t wrong : {0u, 30u, 77u}) EXPECT_THROW(read(wrong), Error) << wrong;
}

}  // namespace
}  // namespace godwit::engine
