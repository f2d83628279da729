#include "agent/engine/memory/vma_image.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

namespace godwit::engine {
namespace {

std::string reason(std::string_view flags, std::string_view line = "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n",
                   unsigned key = 0) {
  const auto refusal = refuse_vma(proc::parse_maps(line).front(), proc::VmFlags(flags, key));
  return refusal ? refusal->reason : "";
}

// What a machine may not have, and so no program of ours: the flags that smaps shows of it.
TEST(RefusedMappings, are_told_by_their_flags) {
  EXPECT_EQ(reason("rd wr mr mw me ac sd"), "");
  EXPECT_EQ(reason("rd wr mr mw me ss"), "a shadow stack is not carried");
  EXPECT_EQ(reason("rd wr mr mw me ht"), "huge pages of a hugetlb pool are not carried");
  for (const char* flags : {"rd sh pf io", "rd wr sh pf", "rd io"})
    EXPECT_EQ(reason(flags), "memory of a device cannot be carried") << flags;
  EXPECT_EQ(reason("rd wr sh mr mw me sf"), "memory of a persistent device (MAP_SYNC) is not carried");
  for (const char* flags : {"rd wr mr mw um", "rd wr sh mr mw ui"})
    EXPECT_EQ(reason(flags), "the process handles its own page faults (userfaultfd)") << flags;
  EXPECT_EQ(reason("rd wr mr mw uw"), "");  // a tracker's
}

TEST(RefusedMappings, are_told_by_their_key_unless_the_kernel_gave_it) {
  EXPECT_EQ(reason("rd wr", "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n", 5),
            "its protection key (5) is not carried");
  EXPECT_EQ(reason("ex", "7f0000000000-7f0000001000 --xp 00000000 00:00 0 \n", 5), "");
}

TEST(RefusedMappings, are_told_by_their_name) {
  EXPECT_EQ(reason("rd wr sh mr mw", "7f0000000000-7f0000001000 rw-s 00000000 00:08 77   socket:[77]\n"),
            "a mapped socket is not carried");
  EXPECT_EQ(reason("rd wr sh mr mw", "7f0000000000-7f0000001000 rw-s 00000000 00:0e 9   anon_inode:[perf_event]\n"),
            "a mapping of a kernel object is not carried");
  EXPECT_EQ(reason("rd wr mr mw", "7f0000000000-7f0000001000 rw-p 00000000 00:00 0   [new kind]\n"),
            "a mapping of this kind is not known");
  EXPECT_EQ(reason("rd wr mr mw", "7f0000000000-7f0000001000 rw-p 00000000 08:01 9   /usr/lib/old.so (deleted)\n"),
            "the mapped file has been deleted");
  EXPECT_EQ(reason("rd wr sh mr mw ms de", "7f0000000000-7f0000001000 rw-s 00000000 00:13 9   /[aio] (deleted)\n"), "");
}

}  // namespace
}  // namespace godwit::engine
