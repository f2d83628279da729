#include "agent/engine/memory/mapping_policies.h"

#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/proc/reader.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>

namespace godwit::engine {
namespace {

proc::Vma mapping_at(const void* at) {
  for (const proc::Vma& vma : proc::Reader(::getpid()).maps())
    if (vma.start == reinterpret_cast<std::uint64_t>(at)) return vma;
  throw Error(Errc::internal, "there is no such mapping");
}

TEST(MappingPolicies, of_files_in_tmpfs_are_the_files) {
  const auto of_file = [](int fd, int flags) {
    void* const at = ::mmap(nullptr, 4096, PROT_READ, flags, fd, 0);
    if (at == MAP_FAILED) throw syscall_error(errno, "map a file");
    const bool answer = policy_of_file(::getpid(), mapping_at(at));
    ::munmap(at, 4096);
    return answer;
  };
  EXPECT_TRUE(of_file(UniqueFd(check(::memfd_create("placed", MFD_CLOEXEC), "make a memfd")).get(), MAP_PRIVATE));
  EXPECT_TRUE(of_file(-1, MAP_SHARED | MAP_ANONYMOUS));
  EXPECT_FALSE(of_file(-1, MAP_PRIVATE | MAP_ANONYMOUS));
  EXPECT_FALSE(of_file(open_file("/proc/self/exe", O_RDONLY).get(), MAP_PRIVATE));

  const std::string name = fmt::format("/dev/shm/godwit-mapping-policies-{}", ::getpid());
  const UniqueFd named = open_file(name, O_RDWR | O_CREAT | O_EXCL, 0600);
  const bool of_named = of_file(named.get(), MAP_PRIVATE);
  ::unlink(name.c_str());
  EXPECT_TRUE(of_named);
}

TEST(MappingPolicies, are_asked_for_again_where_a_mapping_looks_different) {
  const proc::Vma one{.start = 0x10000, .end = 0x20000, .prot = PROT_READ};
  MappingPolicies policies;
  EXPECT_TRUE(policies.has_to_ask({one}));
  policies.know_without({{.vma = one}}, {one.start});
  EXPECT_TRUE(policies.has_to_ask({one}));
  policies.know_without({{.vma = one}}, {});
  EXPECT_FALSE(policies.has_to_ask({one}));
  EXPECT_EQ(policies.find(one), nullptr);
  proc::Vma cut = one;
  cut.end = 0x18000;
  EXPECT_TRUE(policies.has_to_ask({cut}));
  policies.forget(one.start);
  EXPECT_TRUE(policies.has_to_ask({one}));
}

}  // namespace
}  // namespace godwit::engine
