#include "agent/engine/restore/foreign_state.h"

#include "common/base/error.h"
#include "common/image/core.pb.h"
#include "common/image/files.pb.h"
#include "common/image/full_message.h"
#include "common/image/inventory.pb.h"
#include "common/image/mm.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/remap.pb.h"
#include "common/image/seccomp.pb.h"
#include "common/image/task_state.h"
#include "common/image/tty.pb.h"
#include "common/image/vma_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace godwit::engine {
namespace {

using image::Kind;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t pid = 12;

image::CoreEntry core() {
  auto entry = image::full<image::CoreEntry>();
  entry.set_mtype(image::CoreEntry::X86_64);
  entry.mutable_tc()->set_task_state(image::task_state::alive);
  entry.mutable_tc()->set_loginuid(0xffffffff);
  entry.mutable_tc()->set_old_seccomp_mode(image::SECCOMP_OFF);
  entry.mutable_thread_core()->set_seccomp_mode(image::SECCOMP_OFF);
  entry.mutable_thread_core()->clear_seccomp_filter();
  entry.mutable_thread_info()->mutable_gpregs()->set_mode(image::X86_NATIVE);
  entry.mutable_thread_info()->clear_tls();
  entry.mutable_thread_info()->mutable_fpregs()->mutable_xsave()->clear_cet();
  return entry;
}

// What can be restored, as far as this module looks.
image::ImageSet good_set() {
  image::ImageSet set;
  auto process = image::full<image::PstreeEntry>();
  process.set_pid(pid);
  process.clear_threads();
  process.add_threads(pid);
  process.clear_memory_of();
  set.put(Kind::pstree, 0, process);
  set.put(Kind::core, pid, core());
  auto mm = image::full<image::MmEntry>();
  mm.clear_vmas();
  mm.clear_aios();
  set.put(Kind::mm, pid, mm);
  set.put(Kind::ids, pid, image::full<image::TaskKobjIdsEntry>());
  return set;
}

std::string refusal(const image::ImageSet& set, Errc code = Errc::refused) {
  try {
    refuse_foreign_state(set);
  } catch (const Error& error) {
    EXPECT_EQ(error.errc(), code) << error.what();
    return error.message();
  }
  return "not refused";
}

TEST(ForeignState, lets_pass_what_can_be_restored) { EXPECT_THAT(refuse_foreign_state(good_set()), IsEmpty()); }

TEST(ForeignState, lets_a_terminal_pass_that_is_exchanged) {
  image::ImageSet set = good_set();
  auto info = image::full<image::TtyInfoEntry>();
  info.set_type(image::TTY_PTY);
  info.set_rdev(136 << 8 | 3);
  info.mutable_pty()->set_index(3);
  set.put(Kind::tty_info, 0, info);
  EXPECT_THAT(refusal(set), HasSubstr("the other end of /dev/pts/3 is not in the images"));
  EXPECT_THAT(refuse_foreign_state(set, Connections::refused, 3), IsEmpty());
}

TEST(ForeignState, names_images_of_other_kinds) {
  image::ImageSet set = good_set();
  set.put_file("tty.img", "x");
  set.put_file("utsns-11.img", "x");
  set.put_file("novelty.img", "x");
  const std::string said = refusal(set);
  EXPECT_THAT(said, HasSubstr("tty.img: terminals cannot be restored"));
  EXPECT_THAT(said, HasSubstr("utsns-11.img: a UTS namespace"));
  EXPECT_THAT(said, HasSubstr("novelty.img: an image of an unknown kind"));
}

TEST(ForeignState, notices_what_is_left_out) {
  image::ImageSet set = good_set();
  set.put_file("cgroup.img", "x");
  image::CoreEntry entry = core();
  entry.mutable_tc()->set_loginuid(1000);
  entry.GetReflection()->MutableUnknownFields(&entry)->AddVarint(900, 1);
  set.put(Kind::core, pid, entry);
  const std::vector<std::string> notices = refuse_foreign_state(set);
  EXPECT_THAT(notices, Contains(HasSubstr("cgroup.img")));
  EXPECT_THAT(notices, Contains(HasSubstr("login user 1000")));
  EXPECT_THAT(notices, Contains(HasSubstr("CoreEntry 900")));
}

TEST(ForeignState, refuses_threads_it_cannot_make) {
  const auto with = [](auto change) {
    image::ImageSet set = good_set();
    image::CoreEntry entry = core();
    change(entry);
    set.put(Kind::core, pid, entry);
    return set;
  };
  EXPECT_THAT(refusal(with([](auto& e) { e.mutable_tc()->set_old_seccomp_mode(image::SECCOMP_STRICT); })),
              HasSubstr("core-12.img: seccomp"));
  EXPECT_THAT(refusal(with([](auto& e) { e.mutable_thread_core()->set_seccomp_mode(image::SECCOMP_FILTER); }),
                      Errc::image_corrupt),
              HasSubstr("core-12.img: a thread of seccomp mode SECCOMP_FILTER without filters"));
  EXPECT_THAT(refusal(with([](auto& e) { e.mutable_thread_info()->mutable_gpregs()->set_mode(image::X86_COMPAT); })),
              HasSubstr("core-12.img: 32-bit code"));
  EXPECT_THAT(refusal(with([](auto& e) { e.mutable_tc()->set_task_state(6); })), HasSubstr("in state 6"));
  EXPECT_THAT(refusal(with([](auto& e) { e.mutable_tc()->set_task_state(image::task_state::dead); })),
              HasSubstr("the first one, has ended"));
  EXPECT_THAT(refusal(with([](auto& e) { e.clear_thread_core(); }), Errc::image_corrupt), HasSubstr("core-12.img"));
}

TEST(ForeignState, refuses_filters_without_a_thread_or_with_a_supervisor) {
  const sock_filter ask{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_USER_NOTIF};
  image::SeccompEntry filters;
  filters.add_seccomp_filters()->set_filter(&ask, sizeof ask);
  image::ImageSet set = good_set();
  set.put(Kind::seccomp, 0, filters);
  EXPECT_THAT(refusal(set, Errc::image_corrupt), HasSubstr("seccomp.img: filter 0 belongs to no thread"));
  image::CoreEntry owner = core();
  owner.mutable_thread_core()->set_seccomp_mode(image::SECCOMP_FILTER);
  owner.mutable_thread_core()->set_seccomp_filter(0);
  set.put(Kind::core, pid, owner);
  EXPECT_THAT(refusal(set), HasSubstr("seccomp.img: a seccomp filter that asks a supervisor"));
}

TEST(ForeignState, refuses_mappings_and_files_it_cannot_make) {
  image::ImageSet set = good_set();
  auto mm = image::full<image::MmEntry>();
  mm.mutable_vmas(0)->set_status(image::vma_status::regular | image::vma_status::sysvipc);
  set.put(Kind::mm, pid, mm);
  image::FileEntry packets;
  packets.set_type(image::FD_PACKETSK);
  packets.set_id(9);
  set.append(Kind::files, 0, packets);
  auto remap = image::full<image::RemapFilePathEntry>();
  remap.set_remap_type(image::REMAP_LINKED);
  set.append(Kind::remap_fpath, 0, remap);
  const std::string said = refusal(set);
  EXPECT_THAT(said, HasSubstr("mm-12.img: System V shared memory"));
  EXPECT_THAT(said, HasSubstr("mm-12.img: the AIO context at"));
  EXPECT_THAT(said, HasSubstr("files.img: file 9 of type FD_PACKETSK"));
  EXPECT_THAT(said, HasSubstr("remap-fpath.img"));
}

image::FileEntry socket_in(int state, int type = SOCK_STREAM, int protocol = IPPROTO_TCP) {
  auto file = image::full<image::FileEntry>();
  file.set_type(image::FD_INETSK);
  file.set_id(9);
  file.mutable_isk()->set_type(static_cast<std::uint32_t>(type));
  file.mutable_isk()->set_proto(static_cast<std::uint32_t>(protocol));
  file.mutable_isk()->set_state(static_cast<std::uint32_t>(state));
  return file;
}

TEST(ForeignState, refuses_a_tcp_connection_in_any_state) {
  for (const int state : {TCP_ESTABLISHED, TCP_SYN_SENT, TCP_SYN_RECV, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_TIME_WAIT,
                          TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING}) {
    image::ImageSet set = good_set();
    set.append(Kind::files, 0, socket_in(state));
    EXPECT_THAT(refusal(set), HasSubstr("files.img: file 9 is a TCP connection")) << state;
  }
}

TEST(ForeignState, lets_pass_sockets_that_are_no_connections) {
  image::ImageSet set = good_set();
  set.append(Kind::files, 0, socket_in(TCP_LISTEN));
  set.append(Kind::files, 0, socket_in(TCP_CLOSE));
  set.append(Kind::files, 0, socket_in(TCP_ESTABLISHED, SOCK_DGRAM, IPPROTO_UDP));
  EXPECT_THAT(refuse_foreign_state(set), IsEmpty());
}

TEST(ForeignState, closes_connections_when_the_restore_or_the_dump_was_told_to) {
  image::ImageSet set = good_set();
  set.append(Kind::files, 0, socket_in(TCP_ESTABLISHED));
  EXPECT_THAT(refuse_foreign_state(set, Connections::closed), Contains(HasSubstr("it is restored closed")));
  image::InventoryEntry inventory;
  inventory.set_img_version(image::image_version);
  set.put(Kind::inventory, 0, inventory);
  EXPECT_THAT(refusal(set), HasSubstr("--tcp-close restores it closed"));
  inventory.set_tcp_close(true);
  set.put(Kind::inventory, 0, inventory);
  EXPECT_THAT(refuse_foreign_state(set), Contains(HasSubstr("it is restored closed")));
}

}  // namespace
}  // namespace godwit::engine
