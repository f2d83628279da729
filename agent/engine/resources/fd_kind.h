// What a kind of file is to the dump and the restore: a few functions with no state between them.
//
// `matches` decides from the view alone. `refusal` names why this one cannot be carried; it only reads. `dump`
// describes the open file (id, type and flags are set by the caller) and may not change it. `restore` makes the file from its
// entry; flags that F_SETFL can set, the owner of SIGIO and the descriptor's number are the caller's work. `link`
// runs when every descriptor has its final number.
#pragma once

#include "agent/engine/resources/fd_table.h"
#include "agent/engine/resources/fd_view.h"
#include "common/image/files.pb.h"

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::engine::resources {

// What the survey of the whole table knows, for kinds whose other end matters.
struct SurveyContext {
  const Options& options;
  pid_t pid = 0;
  std::set<std::string> links;         // links of all descriptors of the tree, sockets and pipes among them
  std::vector<std::string> notices;
  std::vector<std::string> listening;
};

struct DumpContext {
  const Options& options;
  pid_t pid = 0;
  FileIds& ids;
  image::ImageSet& out;
  const std::vector<FdView>& table;    // the task's whole table
  std::vector<std::string> notices;
};

struct RestoreContext {
  const image::ImageSet& images;
  const std::map<std::uint32_t, int>& segments;
  const std::map<std::uint32_t, image::FileEntry>& files;  // every entry of files.img, by id
  std::map<std::uint32_t, int> numbers;                    // final number by id; complete when linking
  std::map<std::uint32_t, UniqueFd> parked;                // ends made together with the first: by file id
  std::vector<UniqueFd> scaffolding;                       // closed after linking

  // An entry of files.img; Errc::image_corrupt when there is none.
  const image::FileEntry& file(std::uint32_t id) const;
};

struct FdKind {
  image::FdType type;
  std::string_view name;
  bool (*matches)(const FdView&);
  std::optional<Refusal> (*refusal)(const FdView&, SurveyContext&);
  void (*dump)(const FdView&, image::FileEntry&, DumpContext&);
  UniqueFd (*restore)(const image::FileEntry&, RestoreContext&);
  void (*link)(const image::FileEntry&, int fd, RestoreContext&);
};

inline std::optional<Refusal> never_refused(const FdView&, SurveyContext&) { return std::nullopt; }
inline void no_links(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources
