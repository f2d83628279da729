// memfd: an open file on a memory object; the object's content travels with the memory.
#pragma once

#include "agent/engine/resources/fd_kind.h"

namespace godwit::engine::resources::memfd {

bool matches(const FdView& view);
std::optional<Refusal> refusal(const FdView& view, SurveyContext& context);
void dump(const FdView& view, image::FileEntry& entry, DumpContext& context);
UniqueFd restore(const image::FileEntry& entry, RestoreContext& context);
void link(const image::FileEntry& entry, int fd, RestoreContext& context);

struct Object {
  std::string name;
  int seals = 0;
  UniqueFd fd;
};

// What is of the object, whether it has a descriptor or is only mapped: size, owner and mode. The descriptors returned
// are at `floor` and above, where they are in nobody's way.
std::vector<Object> restore_objects(const RestoreContext& context, int floor);
// Last, when content and writable mappings are in place.
void seal(const std::vector<Object>& objects);

}  // namespace godwit::engine::resources::memfd
