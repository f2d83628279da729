// When what was written counts as stored. Errors of delayed writes, by a disk, a quota or a server, come out here:
// where nobody asks they are lost, and the data with them.
#pragma once

#include "common/base/fd.h"

#include <string>

namespace godwit {

// durable: on the disk when the call returns. In memory file systems it costs nothing.
enum class Storage { cached = 1, durable };

// `name`: for messages. A file may be open for reading only, and what others have written is synced with it.
void sync_file(int fd, const std::string& name);  // the content, and what is needed to read it
void sync_directory(int fd, const std::string& name);
void sync_directory_and_its_name(int fd, const std::string& name);  // of one that may be new

// On NFS a file is written when it is closed.
void close_written(UniqueFd file, const std::string& name);

}  // namespace godwit
