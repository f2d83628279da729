// For a dump that rests on others and ends its process: theirs may have been written a moment ago, too, and were left
// to the kernel, since a process ran on.
#pragma once

namespace godwit::image {

// Brings the images of this directory and of its parents to the disk, with their names. Errors name the file.
void sync_with_parents(int dirfd);

}  // namespace godwit::image
