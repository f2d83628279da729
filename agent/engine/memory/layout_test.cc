#include "agent/engine/memory/layout_delta.h"
#include "agent/engine/memory/page_set.h"

#include "common/base/error.h"
#include "common/image/vma_status.h"

#include <gtest/gtest.h>

#include <linux/mempolicy.h>
#include <sys/mman.h>

namespace godwit::engine {
namespace {

image::VmaEntry anonymous(std::uint64_t start, std::uint64_t end, std::uint32_t prot = PROT_READ | PROT_WRITE) {
  image::VmaEntry e;
  e.set_start(start);
  e.set_end(end);
  e.set_prot(prot);
  e.set_flags(MAP_PRIVATE | MAP_ANONYMOUS);
  e.set_status(image::vma_status::regular | image::vma_status::anon_private);
  return e;
}

image::VmaEntry of_file(std::uint64_t start, std::uint64_t end, std::uint64_t pgoff) {
  image::VmaEntry e = anonymous(start, end);
  e.set_flags(MAP_PRIVATE);
  e.set_status(image::vma_status::regular | image::vma_status::file_private);
  e.set_shmid(7);
  e.set_pgoff(pgoff);
  return e;
}

TEST(LayoutDelta, equal_layouts_need_nothing) {
  const Vmas same{anonymous(0x1000, 0x5000), of_file(0x8000, 0x9000, 0)};
  const LayoutDelta d = difference(same, same);
  EXPECT_TRUE(d.unmap.empty() && d.map.empty() && d.protect.empty());
}

TEST(LayoutDelta, growth_maps_only_the_new_part) {
  const LayoutDelta d = difference({anonymous(0x1000, 0x5000)}, {anonymous(0x1000, 0x7000)});
  ASSERT_EQ(d.map.size(), 1u);
  EXPECT_EQ(d.map[0].start(), 0x5000u);
  EXPECT_EQ(d.map[0].end(), 0x7000u);
  EXPECT_TRUE(d.unmap.empty());
}

TEST(LayoutDelta, a_split_by_protection_keeps_the_content) {
  const LayoutDelta d =
      difference({anonymous(0x1000, 0x4000)},
                 {anonymous(0x1000, 0x2000), anonymous(0x2000, 0x3000, PROT_READ), anonymous(0x3000, 0x4000)});
  EXPECT_TRUE(d.unmap.empty() && d.map.empty());
  ASSERT_EQ(d.protect.size(), 1u);
  EXPECT_EQ(d.protect[0].range.start, 0x2000u);
}

TEST(LayoutDelta, another_policy_keeps_the_content) {
  Vmas to{anonymous(0x1000, 0x2000), anonymous(0x2000, 0x4000)};
  to[1].mutable_numa()->set_mode(MPOL_BIND);
  to[1].mutable_numa()->add_nodes(0);
  const LayoutDelta given = difference({anonymous(0x1000, 0x4000)}, to);
  EXPECT_TRUE(given.unmap.empty() && given.map.empty() && given.protect.empty());
  ASSERT_EQ(given.place.size(), 1u);
  EXPECT_EQ(given.place[0].range.start, 0x2000u);
  ASSERT_TRUE(given.place[0].policy);
  EXPECT_EQ(given.place[0].policy->mode(), std::uint32_t{MPOL_BIND});

  EXPECT_TRUE(difference(to, to).place.empty());
  Vmas other = to;
  other[1].mutable_numa()->set_nodes(0, 1);
  EXPECT_EQ(difference(to, other).place.size(), 1u);
  const LayoutDelta taken = difference(to, {anonymous(0x1000, 0x4000)});
  ASSERT_EQ(taken.place.size(), 1u);
  EXPECT_FALSE(taken.place[0].policy);
}

// What a child is forked with is as the parent has it, until its own layout is applied.
TEST(Layout, that_a_child_inherits_has_the_policy_of_its_parent) {
  Vmas parent{anonymous(0x1000, 0x4000)}, child = parent;
  parent[0].mutable_numa()->set_mode(MPOL_LOCAL);
  const Vmas kept = inherited(parent, child);
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(kept[0].numa().mode(), std::uint32_t{MPOL_LOCAL});
  EXPECT_EQ(difference(kept, child).place.size(), 1u);
}

TEST(Layout, is_not_united_where_the_policy_differs) {
  Vmas layout{anonymous(0x1000, 0x2000), anonymous(0x2000, 0x3000)};
  EXPECT_EQ(united(layout).size(), 1u);
  layout[1].mutable_numa()->set_mode(MPOL_LOCAL);
  EXPECT_EQ(united(layout).size(), 2u);
}

TEST(Layout, from_outside_is_checked) {
  const auto errc_of = [](const Vmas& layout) {
    try {
      check_layout(layout);
    } catch (const Error& e) {
      return e.errc();
    }
    return Errc{};
  };
  image::VmaEntry guarded = anonymous(0x1000, 0x4000);
  guarded.add_guards(0x2000);
  guarded.add_guards(0x3000);
  EXPECT_EQ(errc_of({guarded, anonymous(0x4000, 0x5000), of_file(0x8000, 0x9000, 0x1000)}), Errc{});
  EXPECT_EQ(errc_of({anonymous(0xffffffffff600000, 0xffffffffff601000)}), Errc{}) << "vsyscall";
  EXPECT_EQ(errc_of({anonymous(0x1001, 0x3001)}), Errc::image_corrupt);
  EXPECT_EQ(errc_of({anonymous(0x3000, 0x1000)}), Errc::image_corrupt);
  EXPECT_EQ(errc_of({anonymous(0x1000, 0x1000)}), Errc::image_corrupt);
  EXPECT_EQ(errc_of({anonymous(0x1000, 0x4000), anonymous(0x3000, 0x5000)}), Errc::image_corrupt);
  EXPECT_EQ(errc_of({anonymous(0x4000, 0x5000), anonymous(0x1000, 0x2000)}), Errc::image_corrupt);
  EXPECT_EQ(errc_of({of_file(0x1000, 0x3000, INT64_MAX - 0xfff)}), Errc::image_corrupt);
  guarded.set_guards(1, 0x5000);
  EXPECT_EQ(errc_of({guarded}), Errc::image_corrupt);
  guarded.mutable_guards()->RemoveLast();
  EXPECT_EQ(errc_of({guarded}), Errc::image_corrupt);
  image::VmaEntry placed = anonymous(0x1000, 0x4000);
  placed.mutable_numa()->set_mode(MPOL_BIND);
  EXPECT_EQ(errc_of({placed}), Errc{});
  placed.mutable_numa()->add_nodes(1024);
  EXPECT_EQ(errc_of({placed}), Errc::image_corrupt);
}

TEST(LayoutDelta, neighbours_that_nothing_tells_apart_are_one) {
  image::VmaEntry second = anonymous(0x2000, 0x3000), named = anonymous(0x3000, 0x4000);
  second.add_guards(0x2000);
  second.add_guards(0x3000);
  named.set_anon_name("heap");
  const Vmas one = united({anonymous(0x1000, 0x2000), second, named, anonymous(0x5000, 0x6000)});
  ASSERT_EQ(one.size(), 3u);
  EXPECT_EQ(one[0].start(), 0x1000u);
  EXPECT_EQ(one[0].end(), 0x3000u);
  EXPECT_EQ(one[0].guards_size(), 2);
  EXPECT_EQ(one[1].anon_name(), "heap");
  EXPECT_EQ(united({of_file(0x1000, 0x2000, 0), of_file(0x2000, 0x3000, 0x1000)}).size(), 2u);
}

TEST(LayoutDelta, a_mapping_is_inherited_whole_or_not_at_all) {
  image::VmaEntry shared = anonymous(0xa000, 0xb000);
  shared.set_flags(MAP_SHARED | MAP_ANONYMOUS);
  const Vmas parent{anonymous(0x1000, 0x4000), of_file(0x6000, 0x8000, 0x1000), shared};
  const Vmas child{anonymous(0x1000, 0x2000, PROT_READ), anonymous(0x3000, 0x5000), of_file(0x7000, 0x8000, 0x2000),
                   shared};
  const Vmas kept = inherited(parent, child);
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_EQ(kept[0].end(), 0x2000u) << "whatever its protection";
  EXPECT_EQ(kept[0].prot(), PROT_READ | PROT_WRITE) << "as it is after the fork";
  EXPECT_EQ(kept[1].start(), 0x7000u) << "of a file, at the same place of it";
  EXPECT_TRUE(inherits_any(parent, child));
  EXPECT_TRUE(inherited(parent, {of_file(0x7000, 0x8000, 0x1000)}).empty());
  EXPECT_FALSE(inherits_any(parent, {of_file(0x7000, 0x8000, 0x1000), shared}));
}

TEST(LayoutDelta, what_is_from_a_fork_is_joined_with_nothing) {
  const LayoutDelta::Range forked[] = {{0x1000, 0x2000}};
  EXPECT_EQ(united({anonymous(0x1000, 0x2000), anonymous(0x2000, 0x3000), anonymous(0x3000, 0x4000)}, forked).size(),
            2u);
}

using Ranges = std::vector<LayoutDelta::Range>;

std::vector<std::pair<std::uint64_t, std::uint64_t>> pairs(const Ranges& ranges) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> all;
  for (const auto& [start, end] : ranges) all.emplace_back(start, end);
  return all;
}

TEST(LayoutDelta, what_is_from_a_fork_is_outgrown_by_a_mapping_that_reaches_beyond_it) {
  const Ranges forked{{0x1000, 0x4000}, {0x4000, 0x6000}, {0x8000, 0xa000}, {0xc000, 0xe000}};
  EXPECT_TRUE(outgrown(forked, {}).empty());
  EXPECT_TRUE(outgrown(forked, {anonymous(0x1000, 0x2000), anonymous(0x3000, 0x4000), anonymous(0x4000, 0x6000),
                                anonymous(0x6000, 0x8000), anonymous(0xc000, 0xe000)})
                  .empty());
  const Vmas grown{anonymous(0x1000, 0x2000), anonymous(0x2000, 0x5000), anonymous(0x9000, 0xb000),
                   anonymous(0xd000, 0xe000)};
  EXPECT_EQ(pairs(outgrown(forked, grown)), pairs({{0x1000, 0x4000}, {0x4000, 0x6000}, {0x8000, 0xa000}}));
  EXPECT_EQ(pairs(outgrown(forked, {anonymous(0x0, 0x10000)})), pairs(forked));
}

TEST(LayoutDelta, ranges_are_left_where_no_hole_is) {
  const Ranges ranges{{0x1000, 0x4000}, {0x4000, 0x6000}, {0x8000, 0xa000}};
  EXPECT_EQ(pairs(without(ranges, {})), pairs(ranges));
  EXPECT_EQ(pairs(without(ranges, Ranges{{0x2000, 0x3000}, {0x3000, 0x5000}, {0x7000, 0x8000}, {0x9000, 0xb000}})),
            pairs({{0x1000, 0x2000}, {0x5000, 0x6000}, {0x8000, 0x9000}}));
  EXPECT_TRUE(without(ranges, Ranges{{0x0, 0x10000}}).empty());
}

TEST(LayoutDelta, a_mapping_lies_in_a_range_or_in_none) {
  const Ranges ranges{{0x1000, 0x4000}, {0x4000, 0x6000}};
  EXPECT_EQ(range_around(ranges, anonymous(0x3000, 0x4000)), &ranges[0]);
  EXPECT_EQ(range_around(ranges, anonymous(0x4000, 0x6000)), &ranges[1]);
  for (const auto& [start, end] : pairs({{0x0, 0x1000}, {0x3000, 0x5000}, {0x5000, 0x7000}, {0x6000, 0x7000}}))
    EXPECT_EQ(range_around(ranges, anonymous(start, end)), nullptr);
}

TEST(LayoutDelta, another_offset_of_the_same_file_is_another_mapping) {
  const LayoutDelta d = difference({of_file(0x1000, 0x3000, 0)}, {of_file(0x1000, 0x3000, 0x1000)});
  ASSERT_EQ(d.unmap.size(), 1u);
  ASSERT_EQ(d.map.size(), 1u);
}

TEST(LayoutDelta, a_hole_in_a_file_mapping_keeps_offsets) {
  const LayoutDelta d = difference({anonymous(0x2000, 0x3000)}, {of_file(0x1000, 0x4000, 0x10000)});
  ASSERT_EQ(d.map.size(), 1u);
  EXPECT_EQ(d.map[0].pgoff(), 0x10000u);
  const LayoutDelta part = difference({of_file(0x1000, 0x2000, 0x10000)}, {of_file(0x1000, 0x4000, 0x10000)});
  ASSERT_EQ(part.map.size(), 1u);
  EXPECT_EQ(part.map[0].start(), 0x2000u);
  EXPECT_EQ(part.map[0].pgoff(), 0x11000u);
}

TEST(LayoutDelta, neighbours_are_not_glued_together) {
  const LayoutDelta d = difference({}, {anonymous(0x1000, 0x2000), anonymous(0x2000, 0x3000, PROT_READ)});
  EXPECT_EQ(d.map.size(), 2u);
}

TEST(PageSet, terabytes_of_nothing_cost_nothing) {
  PageSet set;
  set.add(0x1000, 0x3000);
  set.add(std::uint64_t{1} << 40, (std::uint64_t{1} << 40) + 0x1000);
  EXPECT_EQ(set.size(), 3u);
  set.remove(0x2000, ~0ull);
  EXPECT_EQ(set.size(), 1u);
  EXPECT_TRUE(set.contains(0x1000));
  EXPECT_FALSE(set.intersects(0x2000, ~0ull));
}

TEST(PageSet, runs_cross_chunks) {
  PageSet set;
  set.add(0x1ff000, 0x201000);
  const auto runs = set.runs();
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].pages, 2u);
}

}  // namespace
}  // namespace godwit::engine
