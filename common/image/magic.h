// The kinds of image files: how they are named, which magic they begin with, how they are framed.
//
// All words are 32 bits, little endian (hosts are x86_64).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace godwit::image {

enum class Kind {
  inventory = 1,
  pstree,
  core,  // id: TID
  ids,   // id: PID, as below
  mm,
  fs,
  files,
  fdinfo,  // id: files_id of TaskKobjIdsEntry
  pagemap,
  pagemap_shmem,  // id: shmid
  pages,          // id: pages_id of PagemapHead
  seccomp,
  cpuinfo,
  timens,  // id: namespace
  memfd,
  pipes_data,
  fifo_data,
  sk_queues,
  tcp_stream,  // id: inode of the socket, hexadecimal in the name
  remap_fpath,
  ghost_file,  // id: remap_id, hexadecimal in the name
  tty_info,
  tty_data,
  stats_dump,
  stats_restore,
  file_locks,
};
constexpr Kind last_kind = Kind::file_locks;

// The words in front of the records.
enum class Framing {
  inventory = 1,  // its own magic only: this file says which version the others have
  normal,         // common magic, magic of the kind
  service,        // service magic, magic of the kind
  raw,            // none, and no records
};

enum class IdStyle { none = 1, decimal, hexadecimal };

struct KindInfo {
  Kind kind;
  std::string_view stem;  // in front of "-ID"
  IdStyle id;
  std::string_view suffix;  // behind it
  std::uint32_t magic;
  Framing framing;
};

inline constexpr std::uint32_t common_magic = 0x54564319;
inline constexpr std::uint32_t service_magic = 0x55105940;
inline constexpr std::uint32_t image_version = 2;  // InventoryEntry.img_version: with the common magic

const KindInfo& info(Kind kind);
std::string file_name(Kind kind, std::uint64_t id = 0);

struct NamedImage {
  Kind kind;
  std::uint64_t id;
  bool operator==(const NamedImage&) const = default;
};
std::optional<NamedImage> parse_file_name(std::string_view name);  // none: not a kind of this table

}  // namespace godwit::image
