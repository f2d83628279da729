// Ids of one dump: which open files are the same open file, and which memory objects are the same object.
//
// Lives as long as the migration. Ids of mappings, of paths and of shared memory stay the same over all rounds; ids
// of descriptors belong to one freeze (`begin_descriptors`). Collects the records of files.img and memfd.img, and
// `write` puts them; writing twice is harmless. Nothing here changes the target. Not thread-safe.
#pragma once

#include "common/base/fd.h"
#include "common/image/files.pb.h"
#include "common/image/image_set.h"

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <sys/stat.h>

namespace godwit::engine::resources {

// A memory object whose content travels as pages of its own (pagemap-shmem-SHMID.img).
struct Segment {
  std::uint32_t shmid = 0;
  dev_t dev = 0;
  ino_t inode = 0;
  UniqueFd memfd;  // reads the content; empty for memory that is only mapped
};

class FileIds {
 public:
  FileIds() = default;
  FileIds(const FileIds&) = delete;
  FileIds& operator=(const FileIds&) = delete;

  struct Slot {
    std::uint32_t id = 0;
    bool fresh = false;  // nobody has described it yet: add() its entry
  };

  // Forgets what a former freeze said about descriptors.
  void begin_descriptors();

  // The open file behind descriptor `number` of the stopped task `pid`; kcmp finds the ones that are shared, among
  // those with the same `link` (/proc/PID/fd).
  Slot for_descriptor(pid_t pid, int number, const std::string& link);

  // True the first time it is asked about this object in a freeze: content shared by several open files (a pipe's)
  // is written once.
  bool first_sight(dev_t dev, ino_t inode) { return seen_.insert({dev, inode}).second; }

  // A descriptor's file that has been deleted; its content is carried with the descriptor.
  void note_deleted(dev_t dev, ino_t inode) { deleted_.insert({dev, inode}); }
  bool is_deleted(dev_t dev, ino_t inode) const { return deleted_.contains({dev, inode}); }

  // An id for an open file that no descriptor names (the path behind a fifo).
  std::uint32_t fresh_id() { return ++last_file_; }

  // The record of a descriptor's open file; entry.id() is from for_descriptor or fresh_id.
  void add(image::FileEntry entry);

  // A mapped file, the executable, a working directory or root: `flags` as for open. Repeats give the same id.
  // `build_id` of a mapped ELF file lets a later restore verify it.
  std::uint32_t file_for_mapping(const std::string& path, const struct stat& st, int flags,
                                 std::string_view build_id = {});

  // A mapped memfd, read through `fd` (from /proc/PID/map_files); adds the memory object too.
  std::uint32_t memfd_for_mapping(int fd, const struct stat& st, int flags);

  // Shared anonymous memory, memfds and System V segments.
  std::uint32_t shmid_for(dev_t dev, ino_t inode);

  // The record in memfd.img of the memfd behind `fd`; on first sight it becomes a segment. Returns its inode_id,
  // which is its shmid as well.
  std::uint32_t memfd_object(int fd, const struct stat& st);

  // Every memfd met so far, mapped or only open: the memory part sends their content.
  std::span<const Segment> segments() const { return segments_; }

  // Puts files.img and memfd.img, replacing what was there.
  void write(image::ImageSet& out) const;
  // The same without the files of descriptors, which a layout does not need.
  void write_mapped(image::ImageSet& out) const;

 private:
  void put(image::ImageSet& out, bool descriptors) const;
  static void put_open_file(const image::FileEntry& entry, image::ImageSet& out);

  struct Representative {
    std::uint32_t id;
    pid_t pid;
    int number;
  };

  std::uint32_t last_file_ = 0;
  std::uint32_t last_shmid_ = 0;
  std::map<std::string, std::vector<Representative>> descriptors_;  // by link; each list in kcmp's order
  std::map<std::uint32_t, image::FileEntry> descriptor_entries_;
  std::map<std::uint32_t, image::FileEntry> mapping_entries_;
  std::map<std::tuple<dev_t, ino_t, std::string, int>, std::uint32_t> mappings_;
  std::map<std::pair<dev_t, ino_t>, std::uint32_t> shmids_;
  std::set<std::pair<dev_t, ino_t>> seen_, deleted_;
  std::map<std::uint32_t, image::MemfdInodeEntry> memfds_;
  std::vector<Segment> segments_;
};

}  // namespace godwit::engine::resources
