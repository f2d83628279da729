// Which dump a directory of images is of, and which one was in its parent when it was written.
//
// Pages that had not changed are the parent's. When the parent has been written again since, or another one was meant,
// they are of another moment, and nothing in CRIU's format tells. So every dump of Godwit's has a name, its generation,
// and a difference has the name of the dump that it was measured against (inventory.img). CRIU writes neither and crit
// drops both: what is not said is not compared.
//
// A page server's directory has no inventory.img before somebody copies it there, and CRIU's protocol has no words for
// a name. There an object without pages stands for it, whose number no process has: the tag. A difference has another
// one, for its parent.
//
// Errors: Errc::image_corrupt for an inventory that cannot be read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace godwit::image {

struct Generation {
  std::string own, parent;  // empty: not said
};

// What inventory.img says. None: there is no such file.
std::optional<Generation> generation_of(int dirfd);

// The number, of a task, that stands for a generation. Never changes: it is on disks and on the wire.
std::uint64_t tag_of(std::string_view generation);
// And the one that says in a difference which dump it was measured against.
std::uint64_t parent_tag_of(std::string_view generation);

// Errc::image_corrupt when the set was not finished: it has neither inventory.img nor a tag.
void refuse_unfinished(int dirfd);

// Errc::refused when a directory of the chain that begins here is not the one that its child was dumped on top of, or
// has the pages of another dump than of the one that it says; both directories are named. A parent that is not there is
// left to whoever needs its pages.
void refuse_other_pages(int dirfd);

}  // namespace godwit::image
