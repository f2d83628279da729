#include "common/image/sample_set.h"

#include "common/image/core.pb.h"
#include "common/image/cpuinfo.pb.h"
#include "common/image/filelock.pb.h"
#include "common/image/files.pb.h"
#include "common/image/fs.pb.h"
#include "common/image/full_message.h"
#include "common/image/inventory.pb.h"
#include "common/image/mm.pb.h"
#include "common/image/pagemap.h"
#include "common/image/pstree.pb.h"
#include "common/image/remap.pb.h"
#include "common/image/seccomp.pb.h"
#include "common/image/stats.pb.h"
#include "common/image/tcp.pb.h"
#include "common/image/timens.pb.h"
#include "common/image/tty.pb.h"

#include <sys/socket.h>
#include <sys/sysmacros.h>

namespace godwit::image {
namespace {

CoreEntry core() {
  auto entry = full<CoreEntry>();
  entry.set_mtype(CoreEntry::X86_64);
  entry.mutable_thread_info()->mutable_gpregs()->set_mode(X86_NATIVE);
  entry.mutable_thread_core()->set_seccomp_mode(SECCOMP_FILTER);
  entry.mutable_thread_core()->set_seccomp_filter(1);
  for (auto* queue : {entry.mutable_tc()->mutable_signals_s(), entry.mutable_thread_core()->mutable_signals_p()})
    queue->mutable_signals(0)->set_siginfo(std::string(128, 'i'));
  return entry;
}

FileEntry file() {
  auto entry = full<FileEntry>();
  entry.set_type(FD_REG);
  entry.mutable_isk()->set_family(AF_INET);
  return entry;
}

// Two of one instruction each, one on top of the other.
SeccompEntry filters() {
  SeccompEntry entry;
  for (std::uint32_t i = 0; i < 2; i++) {
    SeccompFilter& filter = *entry.add_seccomp_filters();
    filter = full<SeccompFilter>();
    filter.set_filter(std::string(8, static_cast<char>('a' + i)));
    filter.set_flags(0);
    filter.set_prev(0);
  }
  entry.mutable_seccomp_filters(0)->clear_prev();
  return entry;
}

// Both ends of one, the master's with the odd id; lines, one of which EOF has ended, and one that is being typed.
void add_terminal(ImageSet& set) {
  for (const std::uint32_t id : {6u, 7u}) {
    auto end = full<TtyInfoEntry>();
    end.set_id(id);
    end.set_type(TTY_PTY);
    end.set_rdev(static_cast<std::uint32_t>(id == 7 ? makedev(5, 2) : makedev(136, 3)));
    end.mutable_pty()->set_index(3);
    set.append(Kind::tty_info, 0, end);
    TtyDataEntry queued;
    queued.set_tty_id(id);
    queued.set_data("first\nendedtyped");
    if (id == 6)
      for (const std::uint32_t line : {6u, 5u}) queued.add_lines(line);
    set.append(Kind::tty_data, 0, queued);
  }
}

void add_contents(ImageSet& set) {
  auto pipe = full<PipeDataEntry>();
  pipe.set_bytes(5);
  set.append(Kind::pipes_data, 0, pipe, "hello");
  set.append(Kind::fifo_data, 0, pipe, "hello");
  auto packet = full<SkPacketEntry>();
  packet.set_length(3);
  set.append(Kind::sk_queues, 0, packet, "abc");
  auto stream = full<TcpStreamEntry>();
  stream.set_inq_len(2);
  stream.set_outq_len(3);
  set.append(Kind::tcp_stream, 0x2f, stream, "inout");
  auto ghost = full<GhostFileEntry>();
  ghost.set_chunks(false);
  set.append(Kind::ghost_file, 0x1f, ghost, "content");
}

}  // namespace

ImageSet sample_set() {
  ImageSet set;
  auto inventory = full<InventoryEntry>();
  inventory.set_img_version(image_version);
  set.put(Kind::inventory, 0, inventory);
  set.put(Kind::pstree, 0, full<PstreeEntry>());
  set.put(Kind::core, 12, core());
  set.put(Kind::ids, 12, full<TaskKobjIdsEntry>());
  set.put(Kind::mm, 12, full<MmEntry>());
  set.put(Kind::fs, 12, full<FsEntry>());
  set.append(Kind::files, 0, file());
  auto slot = full<FdinfoEntry>();
  slot.set_type(FD_REG);
  set.append(Kind::fdinfo, 2, slot);
  set.put(Kind::seccomp, 0, filters());
  set.put(Kind::cpuinfo, 0, full<CpuinfoEntry>());
  set.put(Kind::timens, 0, full<TimensEntry>());
  set.put(Kind::memfd, 0, full<MemfdInodeEntry>());
  set.put(Kind::remap_fpath, 0, full<RemapFilePathEntry>());
  set.put(Kind::file_locks, 0, full<FileLockEntry>());
  set.put(Kind::stats_dump, 0, full<StatsEntry>());
  set.put(Kind::stats_restore, 0, full<StatsEntry>());
  add_terminal(set);
  add_contents(set);
  PagemapWriter pages(1);
  pages.add(0x1000, 2, PageFlag::present);
  pages.add(0x5000, 1, PageFlag::parent);
  const std::string map = pages.finish();
  set.put_file(file_name(Kind::pagemap, 12), map);
  set.put_file(file_name(Kind::pagemap_shmem, 3), map);
  return set;
}

}  // namespace godwit::image
