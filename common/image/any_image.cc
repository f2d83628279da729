#include "common/image/any_image.h"

#include "common/base/error.h"
#include "common/image/core.pb.h"
#include "common/image/cpuinfo.pb.h"
#include "common/image/filelock.pb.h"
#include "common/image/files.pb.h"
#include "common/image/fs.pb.h"
#include "common/image/inventory.pb.h"
#include "common/image/mm.pb.h"
#include "common/image/pagemap.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/remap.pb.h"
#include "common/image/seccomp.pb.h"
#include "common/image/stats.pb.h"
#include "common/image/tcp.pb.h"
#include "common/image/timens.pb.h"
#include "common/image/tty.pb.h"

namespace godwit::image {
namespace {

template <class M>
void records(RecordReader& reader, const EachRecord& each) {
  for (M message; reader.next(message);) each(message);
}

// Raw bytes behind each record.
template <class M>
void records_with_payload(RecordReader& reader, const EachRecord& each, auto size) {
  for (M message; reader.next(message);) {
    each(message);
    reader.payload(size(message));
  }
}

void pagemap(RecordReader& reader, const EachRecord& each) {
  PagemapHead head;
  if (!reader.next(head)) reader.corrupt("no head");
  each(head);
  records<PagemapEntry>(reader, each);
}

void ghost(RecordReader& reader, const EachRecord& each) {
  GhostFileEntry entry;
  if (!reader.next(entry)) reader.corrupt("no record");
  each(entry);
  if (entry.chunks()) records_with_payload<GhostChunkEntry>(reader, each, [](const auto& e) { return e.len(); });
}

}  // namespace

void read_any(Kind kind, RecordReader& reader, const EachRecord& each) {
  switch (kind) {
    case Kind::inventory: return records<InventoryEntry>(reader, each);
    case Kind::pstree: return records<PstreeEntry>(reader, each);
    case Kind::core: return records<CoreEntry>(reader, each);
    case Kind::ids: return records<TaskKobjIdsEntry>(reader, each);
    case Kind::mm: return records<MmEntry>(reader, each);
    case Kind::fs: return records<FsEntry>(reader, each);
    case Kind::files: return records<FileEntry>(reader, each);
    case Kind::fdinfo: return records<FdinfoEntry>(reader, each);
    case Kind::seccomp: return records<SeccompEntry>(reader, each);
    case Kind::cpuinfo: return records<CpuinfoEntry>(reader, each);
    case Kind::timens: return records<TimensEntry>(reader, each);
    case Kind::memfd: return records<MemfdInodeEntry>(reader, each);
    case Kind::remap_fpath: return records<RemapFilePathEntry>(reader, each);
    case Kind::tty_info: return records<TtyInfoEntry>(reader, each);
    case Kind::tty_data: return records<TtyDataEntry>(reader, each);
    case Kind::file_locks: return records<FileLockEntry>(reader, each);
    case Kind::stats_dump:
    case Kind::stats_restore: return records<StatsEntry>(reader, each);
    case Kind::pipes_data:
    case Kind::fifo_data:
      return records_with_payload<PipeDataEntry>(reader, each, [](const auto& e) { return e.bytes(); });
    case Kind::sk_queues:
      return records_with_payload<SkPacketEntry>(reader, each, [](const auto& e) { return e.length(); });
    case Kind::tcp_stream:
      return records_with_payload<TcpStreamEntry>(
          reader, each, [](const auto& e) { return std::uint64_t{e.inq_len()} + e.outq_len(); });
    case Kind::ghost_file: return ghost(reader, each);
    case Kind::pagemap:
    case Kind::pagemap_shmem: return pagemap(reader, each);
    case Kind::pages: break;
  }
  fail(Errc::invalid_argument, "{} holds pages and no records", info(kind).stem);
}

}  // namespace godwit::image
