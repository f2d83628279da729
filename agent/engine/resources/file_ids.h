// Ids of one dump: which open files are the same open file, and which memory objects are the same object.
//
// Lives as long as the migration, or as the tracker of a process that is dumped again and again. Ids of mappings, of
// paths and of shared memory stay the same over all rounds; ids of descriptors belong to one freeze (`begin_freeze`).
// Collects the records of files.img and memfd.img, and `write` puts them; writing twice is harmless. Nothing here
// changes the target. Not thread-safe.
#pragma once

#include "common/base/fd.h"
#include "common/image/files.pb.h"
#include "common/image/image_set.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
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

  // Forgets what a former freeze said about descriptors. What else it has, and this one does not come across, is gone:
  // memory objects once all descriptors and mappings have been looked at (forget_segments), files once all is described
  // (forget_files).
  void begin_freeze();
  void forget_segments();
  void forget_files();

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

  using OpenFile = std::function<UniqueFd()>;
  // A mapped file, the executable, a working directory or root: `flags` as for open. Repeats give the same id, and the
  // record says what was told last. `mapped` opens a mapped file: from it the build id of an ELF file is
  // read, which lets a later restore verify it; once, unless somebody has written to it meanwhile.
  std::uint32_t file_for_mapping(const std::string& path, const struct stat& st, int flags,
                                 const OpenFile& mapped = {});

  // As /proc/PID/maps has it: device, inode, path, and whether it is mapped to be written.
  using MappedFile = std::tuple<dev_t, ino_t, std::string, bool>;
  // In a freeze it is the same for all who have mapped it, and need not be looked at for each: what it was told to be
  // before, since the freeze began.
  std::optional<std::uint32_t> told_in_freeze(const MappedFile& file) const;
  void tell_in_freeze(const MappedFile& file, std::uint32_t id) { told_.emplace(file, id); }

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
  struct Content {  // of a mapped file, as far as it is known
    std::int64_t size = 0;
    std::int64_t changed_s = 0, changed_ns = 0;  // st_ctim, which nobody can set back
    bool operator==(const Content&) const = default;
  };
  std::map<std::uint32_t, image::FileEntry> mapping_entries_;
  std::map<std::uint32_t, Content> contents_;
  std::map<std::tuple<dev_t, ino_t, std::string, int>, std::uint32_t> mappings_;
  std::map<std::pair<dev_t, ino_t>, std::uint32_t> shmids_;
  std::set<std::pair<dev_t, ino_t>> seen_, deleted_;
  std::map<std::uint32_t, image::MemfdInodeEntry> memfds_;
  std::vector<Segment> segments_;
  std::set<std::uint32_t> used_files_, used_objects_;  // since the freeze began
  std::map<MappedFile, std::uint32_t> told_;
};

}  // namespace godwit::engine::resources
