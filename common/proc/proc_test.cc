#include "common/proc/fdinfo.h"
#include "common/proc/limits.h"
#include "common/proc/locks.h"
#include "common/proc/maps.h"
#include "common/proc/mountinfo.h"
#include "common/proc/stat.h"
#include "common/proc/status.h"
#include "common/proc/timers.h"
#include "common/proc/values.h"

#include "common/base/error.h"

#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/mman.h>
#include <sys/sysmacros.h>

namespace godwit::proc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.errc(), Errc::internal);
    return error.message();
  }
  return "no error";
}

TEST(Maps, reads_a_file_mapping) {
  const Vma vma = parse_vma("7f2978241000-7f297824b000 r-xs 00027000 fe:01 332383                     /usr/lib/ld.so");
  EXPECT_EQ(vma.start, 0x7f2978241000u);
  EXPECT_EQ(vma.size(), 0xa000u);
  EXPECT_EQ(vma.prot, PROT_READ | PROT_EXEC);
  EXPECT_TRUE(vma.shared);
  EXPECT_EQ(vma.offset, 0x27000u);
  EXPECT_EQ(vma.dev, makedev(0xfe, 1));
  EXPECT_EQ(vma.inode, 332383u);
  EXPECT_EQ(vma.kind, VmaName::path);
  EXPECT_EQ(vma.name, "/usr/lib/ld.so");
  EXPECT_FALSE(vma.deleted);
}

TEST(Maps, keeps_blanks_newlines_and_backslashes_of_a_path) {
  const Vma vma = parse_vma("1000-2000 rw-p 0 00:01 5  /tmp/a  b\\012c\\x\\134 (deleted)");
  EXPECT_EQ(vma.name, "/tmp/a  b\nc\\x\\134");
  EXPECT_TRUE(vma.deleted);
}

TEST(Maps, tells_special_mappings_apart) {
  const auto kind = [](const std::string& name) { return parse_vma("1000-2000 rw-p 0 00:00 0 " + name).kind; };
  EXPECT_EQ(kind(""), VmaName::none);
  EXPECT_EQ(kind("[heap]"), VmaName::heap);
  EXPECT_EQ(kind("[stack]"), VmaName::stack);
  EXPECT_EQ(kind("[vdso]"), VmaName::vdso);
  EXPECT_EQ(kind("[vvar]"), VmaName::vvar);
  EXPECT_EQ(kind("[vvar_vclock]"), VmaName::vvar_vclock);
  EXPECT_EQ(kind("[vsyscall]"), VmaName::vsyscall);
  EXPECT_EQ(kind("[uprobes]"), VmaName::other);
  EXPECT_EQ(kind("[anon:"), VmaName::other);
  const Vma named = parse_vma("1000-2000 rw-p 0 00:00 0 [anon:my name]");
  EXPECT_EQ(named.kind, VmaName::anon);
  EXPECT_EQ(named.name, "my name");
  EXPECT_EQ(parse_vma("1000-2000 rw-s 0 00:01 7 [anon_shmem:x]").kind, VmaName::anon_shmem);
}

TEST(Maps, refuses_what_no_kernel_writes) {
  for (const char* line : {"", "x", "2000-1000 rw-p 0 0:0 0", "1000-1000 rw-p 0 0:0 0", "1001-2000 rw-p 0 0:0 0",
                           "1000-2000 rw- 0 0:0 0", "1000-2000 rwqp 0 0:0 0", "1000-2000 rw-p 0 0:0",
                           "1000-20000000000000000 rw-p 0 0:0 0", "-1000-2000 rw-p 0 0:0 0"})
    EXPECT_THAT(error_of([&] { parse_vma(line); }), HasSubstr("/proc maps")) << line;
}

TEST(Maps, the_later_line_of_a_torn_read_stands) {
  const auto vmas = parse_maps("1000-2000 rw-p 0 0:0 0\n3000-4000 rw-p 0 0:0 0\n3000-8000 rw-p 0 0:0 0\n");
  ASSERT_EQ(vmas.size(), 2u);
  EXPECT_EQ(vmas[1].end, 0x8000u);
}

TEST(Smaps, reads_usage_and_flags_per_mapping) {
  const auto all = parse_smaps(
      "1000-3000 rw-p 00000000 00:00 0    [heap]\nSize: 8 kB\nKernelPageSize:        4 kB\nRss:    12 kB\n"
      "Swap: 3 kB\nAnonymous: 2 kB\nProtectionKey: 5\nVmFlags: rd wr mr gd uw \n"
      "4000-5000 ---p 00000000 00:00 0 \nNewThing: what\nVmFlags:\n");
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].vma.kind, VmaName::heap);
  EXPECT_EQ(all[0].rss, 12u << 10);
  EXPECT_EQ(all[0].swap, 3u << 10);
  EXPECT_EQ(all[0].page_size, 4096u);
  EXPECT_TRUE(all[0].flags.has("gd"));
  EXPECT_TRUE(all[0].flags.has("uw"));
  EXPECT_FALSE(all[0].flags.has("dr"));
  EXPECT_EQ(all[0].flags.protection_key(), 5u);
  EXPECT_FALSE(all[1].flags.has("rd"));
  EXPECT_THAT(error_of([] { parse_smaps("Rss: 4 kB\n"); }), HasSubstr("smaps"));
}

constexpr std::string_view stat_tail =
    "S 4735 4736 3029 34816 -1 4194304 98 1 2 3 4 5 -6 7 20 -5 9 0 107066 3133440 381 18446744073709551615 11 12 13 "
    "14 15 16 17 18 19 20 21 22 17 1 50 2 23 24 25 26 27 28 29 30 31 32 256\n";

TEST(Stat, reads_all_52_fields) {
  const Stat s = parse_stat("4739 (cat) " + std::string(stat_tail));
  EXPECT_EQ(s.pid, 4739);
  EXPECT_EQ(s.comm, "cat");
  EXPECT_EQ(s.state, 'S');
  EXPECT_EQ(s.ppid, 4735);
  EXPECT_EQ(s.pgid, 4736);
  EXPECT_EQ(s.sid, 3029);
  EXPECT_EQ(s.tty, 34816);
  EXPECT_EQ(s.nice, -5);
  EXPECT_EQ(s.num_threads, 9);
  EXPECT_EQ(s.start_time, 107066u);
  EXPECT_EQ(s.rsslim, UINT64_MAX);
  EXPECT_EQ(s.start_code, 11u);
  EXPECT_EQ(s.start_stack, 13u);
  EXPECT_EQ(s.exit_signal, 17);
  EXPECT_EQ(s.processor, 1);
  EXPECT_EQ(s.rt_priority, 50u);
  EXPECT_EQ(s.policy, 2u);
  EXPECT_EQ(s.start_data, 26u);
  EXPECT_EQ(s.start_brk, 28u);
  EXPECT_EQ(s.env_end, 32u);
  EXPECT_EQ(s.exit_code, 256);
}

TEST(Stat, takes_any_name_a_task_can_give_itself) {
  EXPECT_EQ(parse_stat("7 (a) S 1 (b\n)) " + std::string(stat_tail)).comm, "a) S 1 (b\n)");
}

TEST(Stat, refuses_a_short_line) {
  EXPECT_THAT(error_of([] { parse_stat("7 (a) S 1 2 3"); }), HasSubstr("/proc stat"));
  EXPECT_THAT(error_of([] { parse_stat(")("); }), HasSubstr("/proc stat"));
  EXPECT_THAT(error_of([] { parse_stat(""); }), HasSubstr("/proc stat"));
}

TEST(Status, reads_ids_signals_and_capabilities) {
  const Status s = parse_status(
      "Name:\tredis\nUmask:\t0027\nState:\tS (sleeping)\nTgid:\t12\nPid:\t13\nPPid:\t1\nTracerPid:\t99\n"
      "Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 4294967294 \nNStgid:\t12\t2\nNSpid:\t13\t3\n"
      "VmRSS:\t    2160 kB\nCoreDumping:\t0\nTHP_enabled:\t0\nThreads:\t5\nSigQ:\t3/96365\n"
      "SigPnd:\t0000000000000001\nShdPnd:\t0000000000000002\nSigBlk:\t8000000000000000\nSigIgn:\t0000000000001000\n"
      "SigCgt:\t00000000000044eb\nCapInh:\t0000000000000000\nCapPrm:\t000001fffeffffff\nCapEff:\t0000000000000400\n"
      "CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000400\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n"
      "Mems_allowed:\t00000005\nMems_allowed_list:\t0,2\nuntag_mask:\t0x81ffffffffffffff\nTomorrow:\tx y z\n");
  EXPECT_EQ(s.name, "redis");
  EXPECT_EQ(s.umask, 027u);
  EXPECT_EQ(s.state, 'S');
  EXPECT_EQ(s.tgid, 12);
  EXPECT_EQ(s.pid, 13);
  EXPECT_EQ(s.tracer_pid, 99);
  EXPECT_EQ(s.uid, (FourIds{1, 2, 3, 4}));
  EXPECT_EQ(s.gid, (FourIds{5, 6, 7, 8}));
  EXPECT_THAT(s.groups, ElementsAre(10u, 4294967294u));
  EXPECT_THAT(s.ns_tgid, ElementsAre(12, 2));
  EXPECT_THAT(s.ns_pid, ElementsAre(13, 3));
  EXPECT_EQ(s.rss_bytes, 2160u << 10);
  EXPECT_FALSE(s.thp_enabled);
  EXPECT_EQ(s.threads, 5u);
  EXPECT_EQ(s.signals_queued, 3u);
  EXPECT_EQ(s.signals_limit, 96365u);
  EXPECT_EQ(s.sig_pending, 1u);
  EXPECT_EQ(s.shared_sig_pending, 2u);
  EXPECT_EQ(s.sig_blocked, 0x8000000000000000u);
  EXPECT_EQ(s.sig_ignored, 0x1000u);
  EXPECT_EQ(s.sig_caught, 0x44ebu);
  EXPECT_EQ(s.cap_prm, 0x1fffeffffffu);
  EXPECT_EQ(s.cap_bnd, 0x1ffffffffffu);
  EXPECT_EQ(s.cap_amb, 0x400u);
  EXPECT_EQ(s.mems_allowed, "0,2");
  EXPECT_TRUE(s.no_new_privs);
  EXPECT_EQ(s.seccomp, 2u);
  EXPECT_EQ(s.seccomp_filters, 3u);
  EXPECT_EQ(s.untag_mask, 0x81ffffffffffffffu);
}

TEST(Status, refuses_text_without_identity) {
  EXPECT_THAT(error_of([] { parse_status("Name:\tx\n"); }), HasSubstr("/proc status"));
  EXPECT_THAT(error_of([] { parse_status("Uid:\t1\t2\t3\n"); }), HasSubstr("/proc status"));
}

TEST(Limits, come_in_the_order_of_the_resource_numbers) {
  std::string text = "Limit                     Soft Limit           Hard Limit           Units     \n";
  const char* names[] = {"Max cpu time",       "Max file size",     "Max data size",         "Max stack size",
                         "Max core file size", "Max resident set",  "Max processes",         "Max open files",
                         "Max locked memory",  "Max address space", "Max file locks",        "Max pending signals",
                         "Max msgqueue size",  "Max nice priority", "Max realtime priority", "Max realtime timeout"};
  int n = 0;
  for (const char* name : names) text += std::string(name) + "    " + std::to_string(++n) + "   unlimited   units\n";
  const Limits limits = parse_limits(text);
  EXPECT_EQ(limits[RLIMIT_CPU], (Limit{1, RLIM_INFINITY}));
  EXPECT_EQ(limits[RLIMIT_STACK].soft, 4u);
  EXPECT_EQ(limits[RLIMIT_NOFILE].soft, 8u);
  EXPECT_EQ(limits[RLIMIT_RTTIME].soft, 16u);
  EXPECT_THAT(error_of([&] { parse_limits(text.substr(0, text.find("Max realtime t"))); }), HasSubstr("limits"));
}

TEST(Timers, are_read_in_the_kernels_order) {
  const auto timers = parse_timers(
      "ID: 2\nsignal: 34/0000000000001234\nnotify: signal/tid.4766\nClockID: 1\n"
      "ID: 0\nsignal: 14/ffffffffffffffff\nnotify: none/pid.4766\nClockID: -6\n");
  ASSERT_EQ(timers.size(), 2u);
  EXPECT_EQ(timers[0], (PosixTimer{.id = 2,
                                   .signal = 34,
                                   .sigval = 0x1234,
                                   .notify = TimerNotify::signal,
                                   .to_thread = true,
                                   .target = 4766,
                                   .clock = 1}));
  EXPECT_EQ(timers[0].sigev_notify(), SIGEV_THREAD_ID);
  EXPECT_EQ(timers[1].sigev_notify(), SIGEV_NONE);
  EXPECT_EQ(timers[1].sigval, UINT64_MAX);
  EXPECT_EQ(timers[1].clock, -6);
  EXPECT_THAT(error_of([] { parse_timers("signal: 1/2\n"); }), HasSubstr("timers"));
  EXPECT_THAT(error_of([] { parse_timers("ID: 1\nnotify: mail/pid.1\n"); }), HasSubstr("timers"));
}

const std::string common_part = "pos:\t100\nflags:\t02102002\nmnt_id:\t27\nino:\t10952748\n";

TEST(Fdinfo, reads_the_common_part) {
  const Fdinfo info = parse_fdinfo(common_part);
  EXPECT_EQ(info.pos, 100);
  EXPECT_EQ(info.flags, 02102002u);
  EXPECT_EQ(info.mnt_id, 27);
  EXPECT_EQ(info.inode, 10952748u);
  EXPECT_FALSE(info.eventfd || info.timerfd || info.signalfd_mask || info.pidfd || info.fanotify);
  EXPECT_THAT(error_of([] { parse_fdinfo("pos:\t0\n"); }), HasSubstr("fdinfo"));
}

TEST(Fdinfo, reads_an_eventfd_counter_as_hexadecimal) {
  const Fdinfo info =
      parse_fdinfo(common_part + "eventfd-count: fffffffffffffffe\neventfd-id: 1\neventfd-semaphore: 1\n");
  ASSERT_TRUE(info.eventfd);
  EXPECT_EQ(info.eventfd->count, 0xfffffffffffffffeu);
  EXPECT_TRUE(info.eventfd->semaphore);
  EXPECT_EQ(info.eventfd->id, 1);
}

TEST(Fdinfo, reads_what_an_epoll_watches) {
  const Fdinfo info = parse_fdinfo(common_part +
                                   "tfd:        5 events:       1d data: deadbeef12345678  pos:-1 ino:3066 sdev:f\n"
                                   "tfd:        3 events: 80000019 data:                3  pos:0 ino:40e sdev:10\n");
  ASSERT_EQ(info.epoll.size(), 2u);
  EXPECT_EQ(info.epoll[0].fd, 5);
  EXPECT_EQ(info.epoll[0].events, 0x1du);
  EXPECT_EQ(info.epoll[0].data, 0xdeadbeef12345678u);
  EXPECT_EQ(info.epoll[0].pos, -1);
  EXPECT_EQ(info.epoll[1].events, 0x80000019u);
  EXPECT_EQ(info.epoll[1].inode, 0x40eu);
  EXPECT_EQ(info.epoll[1].dev, 0x10u);
}

TEST(Fdinfo, reads_timerfd_and_signalfd) {
  const Fdinfo timer = parse_fdinfo(
      common_part + "clockid: 1\nticks: 3\nsettime flags: 01\nit_value: (5, 999999999)\nit_interval: (3, 5)\n");
  ASSERT_TRUE(timer.timerfd);
  EXPECT_EQ(timer.timerfd->clock, 1);
  EXPECT_EQ(timer.timerfd->ticks, 3u);
  EXPECT_EQ(timer.timerfd->settime_flags, 1u);
  EXPECT_EQ(timer.timerfd->value_s, 5);
  EXPECT_EQ(timer.timerfd->value_ns, 999999999);
  EXPECT_EQ(timer.timerfd->interval_ns, 5);
  EXPECT_EQ(parse_fdinfo(common_part + "sigmask:\t8000000000000003\n").signalfd_mask, 0x8000000000000003u);
}

TEST(Fdinfo, reads_inotify_watches_with_their_handles) {
  const Fdinfo info =
      parse_fdinfo(common_part +
                   "inotify wd:1a ino:3c51a sdev:fe00000 mask:100 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 "
                   "f_handle:1ac50300000000ff\ninotify wd:2 ino:5 sdev:1 mask:2 ignored_mask:0\n");
  ASSERT_EQ(info.inotify.size(), 2u);
  EXPECT_EQ(info.inotify[0].wd, 26);
  EXPECT_EQ(dev_of(info.inotify[0].dev), makedev(0xfe, 0));
  EXPECT_EQ(info.inotify[0].handle, std::string("\x1a\xc5\x03\0\0\0\0\xff", 8));
  EXPECT_EQ(info.inotify[0].handle_type, 1);
  EXPECT_FALSE(info.inotify[1].handle_type);
  EXPECT_THAT(error_of([] {
                parse_fdinfo(common_part +
                             "inotify wd:1 ino:1 sdev:1 mask:1 ignored_mask:0 fhandle-bytes:80000000 "
                             "fhandle-type:1 f_handle:00\n");
              }),
              HasSubstr("fdinfo"));
}

TEST(Fdinfo, notices_fanotify_pidfd_and_terminals) {
  EXPECT_TRUE(parse_fdinfo(common_part + "fanotify flags:0 event-flags:8000\n").fanotify);
  const Fdinfo pidfd = parse_fdinfo(common_part + "Pid:\t-1\nNSpid:\t7\t8\n");
  ASSERT_TRUE(pidfd.pidfd);
  EXPECT_EQ(pidfd.pidfd->pid, -1);
  EXPECT_THAT(pidfd.pidfd->ns_pid, ElementsAre(7, 8));
  EXPECT_EQ(parse_fdinfo(common_part + "tty-index:\t3\n").tty_index, 3);
}

TEST(Fdinfo, reads_locks) {
  const Fdinfo info = parse_fdinfo(common_part +
                                   "lock:\t1: POSIX  ADVISORY  WRITE 4766 fe:00:10952748 5 14\n"
                                   "lock:\t2: FLOCK  ADVISORY  READ 4766 fe:00:10952749 0 EOF\n"
                                   "lock:\t3: OFDLCK ADVISORY  READ -1 fe:00:1 0 EOF\n");
  ASSERT_EQ(info.locks.size(), 3u);
  EXPECT_EQ(info.locks[0].kind, LockKind::posix);
  EXPECT_TRUE(info.locks[0].write);
  EXPECT_EQ(info.locks[0].start, 5);
  EXPECT_EQ(info.locks[0].end, 14);
  EXPECT_EQ(info.locks[1].kind, LockKind::flock);
  EXPECT_FALSE(info.locks[1].end);
  EXPECT_EQ(info.locks[2].kind, LockKind::ofd);
  EXPECT_EQ(info.locks[2].pid, -1);
}

TEST(Locks, leave_out_who_waits) {
  const auto locks = parse_locks(
      "1: POSIX  ADVISORY  WRITE 702 fe:00:1234 0 EOF\n"
      "1: -> POSIX  ADVISORY  READ  703 fe:00:1234 5 9\n"
      "2: OFDLCK ADVISORY  READ  -1 00:2a:7 0 0\n"
      "3: LEASE  BREAKING  WRITE 704 <none>:0 0 EOF\n");
  ASSERT_EQ(locks.size(), 3u);
  EXPECT_EQ(locks[0].kind, "POSIX");
  EXPECT_EQ(locks[0].type, "WRITE");
  EXPECT_EQ(locks[0].pid, 702);
  EXPECT_EQ(locks[0].file, locked_file(makedev(0xfe, 0), 1234));
  EXPECT_EQ(locks[1].pid, -1);
  EXPECT_EQ(locks[2].kind, "LEASE");
  EXPECT_THAT(error_of([] { parse_locks("1: POSIX ADVISORY WRITE\n"); }), HasSubstr("locks"));
}

TEST(Mountinfo, reads_escapes_and_optional_fields) {
  const Mount m =
      parse_mount("25 24 0:23 /a\\040b /dev/shm\\134 rw,relatime shared:1 master:2 - tmpfs tmp\\043fs rw,size=4k");
  EXPECT_EQ(m.id, 25);
  EXPECT_EQ(m.parent, 24);
  EXPECT_EQ(m.dev, makedev(0, 23));
  EXPECT_EQ(m.root, "/a b");
  EXPECT_EQ(m.point, "/dev/shm\\");
  EXPECT_THAT(m.propagation, ElementsAre("shared:1", "master:2"));
  EXPECT_EQ(m.type, "tmpfs");
  EXPECT_EQ(m.source, "tmp#fs");
  EXPECT_EQ(m.super_options, "rw,size=4k");
  EXPECT_EQ(parse_mount("1 2 0:3 / / rw - fuse  rw").super_options, "rw");
  EXPECT_THAT(error_of([] { parse_mount("1 2 0:3 / / rw shared:1"); }), HasSubstr("mountinfo"));
}

TEST(Values, take_no_thread_s_name_for_a_value) {
  const std::string below =
      " (1, #threads: 1)\n" + std::string(67, '-') + "\nse.exec_start : 5.000000\nnr_switches : 7\n";
  for (const std::string name : {"policy:x", "nr_switches : 9", "se.exec_start", "a\nprio:high", "\n-----\npolicy:x"}) {
    const Sched sched = parse_sched(name + below);
    EXPECT_EQ(sched.exec_start_ns, 5'000'000u) << name;
    EXPECT_EQ(sched.switches, 7u) << name;
    EXPECT_EQ(sched.policy, 0u) << name;
  }
}

TEST(Values, read_the_small_files) {
  const Sched sched = parse_sched("cat (1, #threads: 1)\n" + std::string(67, '-') +
                                  "\nse.exec_start                                :       1070379.007804\n"
                                  "nr_switches : 7\nnr_voluntary_switches : 6\n"
                                  "policy                                       :                    1\nprio : 120\n");
  EXPECT_EQ(sched.exec_start_ns, 1070379007804u);
  EXPECT_EQ(sched.switches, 7u);
  EXPECT_EQ(sched.policy, 1u);
  EXPECT_EQ(sched.prio, 120);
  const auto cgroups = parse_cgroup("9:name=systemd:/\n4:memory:/a:b c\n0::/x\n");
  ASSERT_EQ(cgroups.size(), 3u);
  EXPECT_EQ(cgroups[0].controllers, "name=systemd");
  EXPECT_EQ(cgroups[1].path, "/a:b c");
  EXPECT_EQ(cgroups[2].id, 0);
  EXPECT_THAT(parse_pids("5 6 77 "), ElementsAre(5, 6, 77));
  EXPECT_THAT(parse_pids(""), ElementsAre());
  EXPECT_EQ(parse_personality("00040000\n"), 0x40000u);
  EXPECT_EQ(parse_oom_score_adj("-17\n"), -17);
  EXPECT_EQ(parse_loginuid("4294967295"), UINT32_MAX);
}

}  // namespace
}  // namespace godwit::proc
