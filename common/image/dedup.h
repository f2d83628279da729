// Frees what a set of images supersedes in the sets before it: pages that the set has itself, in every parent that has
// them too. A parent is then no longer whole by itself; the set that the dedup began at still is.
//
// Errors: Errc::image_corrupt for a set that was not finished, and with file and offset for one that lacks a page or
// has a damaged image of pages; Errc::refused for parents that are not those that the set rests on (generation.h): in
// all these cases nothing is freed. A parent that cannot be punched (its file system) is an error too.
#pragma once

#include <cstdint>

namespace godwit::image {

// All pagemaps of the directory. Returns how many bytes of pages are superseded; some may have been free already.
std::uint64_t dedup(int dirfd);

}  // namespace godwit::image
