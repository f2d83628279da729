#include "common/image/unknown_fields.h"

#include "common/image/core.pb.h"
#include "common/image/full_message.h"
#include "common/image/inventory.pb.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::image {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(UnknownFields, none_in_what_is_written_here) {
  ImageSet set;
  set.put(Kind::core, 12, full<CoreEntry>());
  EXPECT_THAT(unknown_fields(set), IsEmpty());
}

TEST(UnknownFields, are_named_with_their_message_and_file_once) {
  auto core = full<CoreEntry>();
  TaskCoreEntry& tc = *core.mutable_tc();
  tc.GetReflection()->MutableUnknownFields(&tc)->AddVarint(777, 1);
  for (SaEntry& action : *tc.mutable_sigactions())
    action.GetReflection()->MutableUnknownFields(&action)->AddVarint(778, 1);
  *tc.add_sigactions() = tc.sigactions(0);
  ImageSet set;
  set.put(Kind::core, 12, core);
  EXPECT_THAT(unknown_fields(set), ElementsAre("core-12.img: SaEntry 778", "core-12.img: TaskCoreEntry 777"));
}

TEST(UnknownFields, are_not_looked_for_in_what_a_program_that_knows_the_same_has_written) {
  auto core = full<CoreEntry>();
  core.GetReflection()->MutableUnknownFields(&core)->AddVarint(777, 1);
  auto inventory = full<InventoryEntry>();
  ImageSet set;
  set.put(Kind::core, 12, core);
  inventory.set_known_fields("others");
  set.put(Kind::inventory, 0, inventory);
  EXPECT_THAT(unknown_fields(set), ElementsAre("core-12.img: CoreEntry 777"));
  inventory.set_known_fields(std::string(known_fields()));
  set.put(Kind::inventory, 0, inventory);
  EXPECT_THAT(unknown_fields(set), IsEmpty());
}

}  // namespace
}  // namespace godwit::image
