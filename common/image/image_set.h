// An image set in memory: everything of a dump but the pages, all of it small. It comes from a directory or
// as (name, bytes) from a peer, and goes to either.
//
//   ImageSet images;
//   images.put(Kind::mm, pid, mm);                       // a file of one record
//   images.append(Kind::files, 0, file);                 // one more record
//   images.append(Kind::pipes_data, 0, entry, content);  // with raw bytes behind it
//   images.save(dirfd);
//
//   MmEntry mm = images.get<MmEntry>(Kind::mm, pid);
//   const MmEntry& same = images.view<MmEntry>(Kind::mm, pid);  // parsed once for all who ask
//   for (const FileEntry& file : images.records<FileEntry>(Kind::files)) ...
//
// Errors: Errc::image_corrupt with file and offset. Names and bytes are hostile. Not thread-safe.
#pragma once

#include "common/base/storage.h"
#include "common/image/record.h"

#include <google/protobuf/arena.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace godwit::image {

template <class Message>
struct WithPayload {
  Message entry;
  std::string payload;
};

class ImageSet {
 public:
  using Files = std::map<std::string, std::string, std::less<>>;
  using Message = google::protobuf::MessageLite;

  void put(Kind kind, std::uint64_t id, const Message& message);  // replaces the file
  void append(Kind kind, std::uint64_t id, const Message& message, std::string_view payload = {});

  bool has(Kind kind, std::uint64_t id = 0) const { return find(kind, id) != nullptr; }

  // The only record of a file that must be there.
  template <class M>
  M get(Kind kind, std::uint64_t id = 0) const {
    M message;
    RecordReader reader = open(kind, id);
    read_only_record(reader, message);
    return message;
  }

  // The same, kept: as long as the set is there and unchanged.
  template <class M>
  const M& view(Kind kind, std::uint64_t id = 0) const {
    if (!views_) views_ = std::make_shared<Views>();
    const Message*& kept = views_->parsed[{&M::default_instance(), kind, id}];
    if (!kept) {
      auto* message = google::protobuf::Arena::CreateMessage<M>(&views_->arena);
      RecordReader reader = open(kind, id);
      read_only_record(reader, *message);
      kept = message;
    }
    return static_cast<const M&>(*kept);
  }

  // All records; none when there is no such file, since files without records are not written.
  template <class M>
  std::vector<M> records(Kind kind, std::uint64_t id = 0) const {
    std::vector<M> all;
    if (!has(kind, id)) return all;
    RecordReader reader = open(kind, id);
    for (M message; reader.next(message);) all.push_back(std::move(message));
    return all;
  }

  // For kinds with raw bytes behind each record; `size` tells how many: [](const PipeDataEntry& e) { return e.bytes();
  // }
  template <class M, class Size>
  std::vector<WithPayload<M>> records_with_payload(Kind kind, std::uint64_t id, Size size) const {
    std::vector<WithPayload<M>> all;
    if (!has(kind, id)) return all;
    RecordReader reader = open(kind, id);
    for (M message; reader.next(message);) {
      std::string payload(reader.payload(size(message)));
      all.push_back({std::move(message), std::move(payload)});
    }
    return all;
  }

  // For files of mixed content: header checked, the caller reads on. Valid as long as the set is unchanged.
  RecordReader open(Kind kind, std::uint64_t id = 0) const;

  // Files as they are, to and from a peer. A name that is no plain file name is refused.
  void put_file(std::string name, std::string bytes);
  const Files& files() const { return files_; }
  std::size_t size_in_bytes() const;
  std::vector<std::uint64_t> ids(Kind kind) const;  // of all files of this kind, ascending

  // Directories. load: every image but the pages. save: inventory.img last, so that a directory without it
  // is known to be unfinished. Storage::durable: all of it is on the disk afterwards, with its names.
  static ImageSet load(int dirfd);
  void save(int dirfd, Storage storage = Storage::cached) const;

 private:
  const std::string* find(Kind kind, std::uint64_t id) const;
  static void read_only_record(RecordReader& reader, Message& message);

  Files files_;
  // Of the files as they are. In an arena: a mapping of a process is a message of its own, and there are thousands.
  struct Views {
    google::protobuf::Arena arena;
    std::map<std::tuple<const Message*, Kind, std::uint64_t>, const Message*> parsed;
  };
  mutable std::shared_ptr<Views> views_;
};

}  // namespace godwit::image
