// Image files of every kind. The first byte picks the kind, the rest is the file without its header.
#include "common/image/core.pb.h"
#include "common/image/cpuinfo.pb.h"
#include "common/image/filelock.pb.h"
#include "common/image/files.pb.h"
#include "common/image/fs.pb.h"
#include "common/image/image_set.h"
#include "common/image/inventory.pb.h"
#include "common/image/mm.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/remap.pb.h"
#include "common/image/seccomp.pb.h"
#include "common/image/stats.pb.h"
#include "common/image/tcp.pb.h"
#include "common/image/timens.pb.h"
#include "common/image/tty.pb.h"

#include "tests/fuzz/fuzz.h"

namespace godwit {
namespace {

using namespace image;

// Whatever was read is written again and read back the same.
template <class M>
void read(Kind kind, std::string_view records) {
  ImageSet set;
  set.put_file(file_name(kind), header(kind).append(records));
  ImageSet copy;
  const auto messages = set.records<M>(kind);
  for (const M& message : messages) copy.append(kind, 0, message);
  require(copy.records<M>(kind).size() == messages.size());
}

template <class M>
void read_with_payload(Kind kind, std::string_view records, auto size) {
  ImageSet set;
  set.put_file(file_name(kind), header(kind).append(records));
  ImageSet copy;
  for (const auto& [message, payload] : set.records_with_payload<M>(kind, 0, size)) {
    require(payload.size() == size(message));
    copy.append(kind, 0, message, payload);
  }
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const std::string_view rest = input.substr(1);
  switch (static_cast<Kind>(input[0])) {
    case Kind::inventory: return read<InventoryEntry>(Kind::inventory, rest);
    case Kind::pstree: return read<PstreeEntry>(Kind::pstree, rest);
    case Kind::core: return read<CoreEntry>(Kind::core, rest);
    case Kind::ids: return read<TaskKobjIdsEntry>(Kind::ids, rest);
    case Kind::mm: return read<MmEntry>(Kind::mm, rest);
    case Kind::fs: return read<FsEntry>(Kind::fs, rest);
    case Kind::files: return read<FileEntry>(Kind::files, rest);
    case Kind::fdinfo: return read<FdinfoEntry>(Kind::fdinfo, rest);
    case Kind::seccomp: return read<SeccompEntry>(Kind::seccomp, rest);
    case Kind::cpuinfo: return read<CpuinfoEntry>(Kind::cpuinfo, rest);
    case Kind::timens: return read<TimensEntry>(Kind::timens, rest);
    case Kind::memfd: return read<MemfdInodeEntry>(Kind::memfd, rest);
    case Kind::remap_fpath: return read<RemapFilePathEntry>(Kind::remap_fpath, rest);
    case Kind::tty_info: return read<TtyInfoEntry>(Kind::tty_info, rest);
    case Kind::tty_data: return read<TtyDataEntry>(Kind::tty_data, rest);
    case Kind::file_locks: return read<FileLockEntry>(Kind::file_locks, rest);
    case Kind::stats_dump:
    case Kind::stats_restore: return read<StatsEntry>(Kind::stats_dump, rest);
    case Kind::pipes_data:
    case Kind::fifo_data:
      return read_with_payload<PipeDataEntry>(Kind::pipes_data, rest, [](const auto& e) { return e.bytes(); });
    case Kind::sk_queues:
      return read_with_payload<SkPacketEntry>(Kind::sk_queues, rest, [](const auto& e) { return e.length(); });
    case Kind::tcp_stream:
      return read_with_payload<TcpStreamEntry>(Kind::tcp_stream, rest,
                                               [](const auto& e) { return std::uint64_t{e.inq_len()} + e.outq_len(); });
    case Kind::ghost_file: return read<GhostFileEntry>(Kind::ghost_file, rest);
    case Kind::pagemap:
    case Kind::pagemap_shmem:
    case Kind::pages: return;  // pagemap.cc
  }
}

}  // namespace godwit
