#include "coordinator/fleet/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::coordinator {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint64_t mib = 1u << 20;

Seat seat(const std::string& node, std::uint64_t free_mib) {
  return {.node = node,
          .up = true,
          .memory_available = free_mib * mib,
          .xfeatures = 0xe7,
          .cpu_flags = {"sse2", "avx2", "pti"},
          .names = {}};
}
Piece piece(const std::string& workload, std::uint64_t needed_mib) {
  return {.workload = workload, .needed_bytes = needed_mib * mib, .xfeatures = 0x7, .refused_by = {}};
}

std::vector<std::string> plan(std::vector<Piece> pieces, std::vector<Seat> seats) {
  std::vector<std::string> lines;
  for (const Placed& p : place(seat("a", 1000), std::move(pieces), std::move(seats)))
    lines.push_back(p.workload + (p.node.empty() ? "? " + p.reason : ">" + p.node));
  return lines;
}

TEST(Placement, moves_the_largest_first_onto_the_node_with_the_most_free) {
  EXPECT_THAT(plan({piece("small", 10), piece("large", 300), piece("medium", 200)}, {seat("b", 500), seat("c", 400)}),
              ElementsAre("large>b", "medium>c", "small>b"))
      << "b has 200 left, c 200: the name decides";
}

TEST(Placement, spreads_what_is_alike) {
  std::vector<Piece> six;
  for (const char* name : {"1", "2", "3", "4", "5", "6"}) six.push_back(piece(name, 10));
  EXPECT_THAT(plan(six, {seat("b", 500), seat("c", 500)}), ElementsAre("1>b", "2>c", "3>b", "4>c", "5>b", "6>c"));
}

TEST(Placement, counts_what_it_has_placed_already) {
  EXPECT_THAT(plan({piece("x", 60), piece("y", 50)}, {seat("b", 100)}),
              ElementsAre("x>b", "y? b: 50.0 MiB of memory are needed, 40.0 MiB are free"));
}

TEST(Placement, lets_a_smaller_one_have_what_the_larger_cannot_use) {
  EXPECT_THAT(plan({piece("huge", 900), piece("tiny", 9)}, {seat("b", 100)}),
              ElementsAre(HasSubstr("huge? b: "), "tiny>b"));
}

TEST(Placement, never_uses_the_node_itself_nor_one_that_is_lost_or_cordoned) {
  Seat lost = seat("b", 5000), cordoned = seat("c", 5000);
  lost.up = false;
  cordoned.cordoned = true;
  EXPECT_THAT(plan({piece("x", 1)}, {seat("a", 9000), lost, cordoned}),
              ElementsAre("x? a: it is the node to be left; b: it is not connected; c: it is cordoned"));
  EXPECT_THAT(plan({piece("x", 1)}, {seat("a", 9000), lost, cordoned, seat("d", 10)}), ElementsAre("x>d"));
  EXPECT_THAT(plan({piece("x", 1)}, {}), ElementsAre("x? there is no other node"));
}

TEST(Placement, asks_for_the_register_state_that_is_in_use) {
  Seat old = seat("b", 5000);
  old.xfeatures = 0x3;
  EXPECT_THAT(plan({piece("x", 1)}, {old, seat("c", 10)}), ElementsAre("x>c"));
  EXPECT_THAT(plan({piece("x", 1)}, {old}),
              ElementsAre(HasSubstr("cannot hold register state that is in use (xfeatures 0x4)")));
}

TEST(Placement, asks_for_every_instruction_set_of_the_node_that_is_left) {
  Seat older = seat("b", 5000), other_kernel = seat("c", 10);
  older.cpu_flags = {"sse2", "pti"};
  other_kernel.cpu_flags = {"sse2", "avx2", "avx512f"};
  EXPECT_THAT(plan({piece("x", 1)}, {older, other_kernel}), ElementsAre("x>c"))
      << "what only speaks of the kernel may differ";
  EXPECT_THAT(plan({piece("x", 1)}, {older}), ElementsAre("x? b: its CPU lacks avx2"));
}

TEST(Placement, does_not_ask_again_where_it_was_refused_nor_where_the_name_is_taken) {
  Piece turned_away = piece("x", 1);
  turned_away.refused_by = {{"b", "port 80 is taken"}};
  Seat taken = seat("c", 5000);
  taken.names = {"x"};
  EXPECT_THAT(plan({turned_away}, {seat("b", 5000), taken, seat("d", 10)}), ElementsAre("x>d"));
  EXPECT_THAT(plan({turned_away}, {seat("b", 5000), taken}),
              ElementsAre("x? b: port 80 is taken; c: it has a workload 'x' already"));
}

TEST(Placement, does_not_believe_in_memory_that_nobody_told_of) {
  EXPECT_THAT(plan({piece("x", 1)}, {seat("b", 0)}), ElementsAre(HasSubstr("0 B are free")));
}

}  // namespace
}  // namespace godwit::coordinator
