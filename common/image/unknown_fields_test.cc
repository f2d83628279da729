#include "common/image/unknown_fields.h"

#include "common/image/core.pb.h"
#include "common/image/full_message.h"

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

}  // namespace
}  // namespace godwit::image
