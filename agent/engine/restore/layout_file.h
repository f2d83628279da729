// The files by which a source describes address spaces while their pages already come: what one is, by its name.
#pragma once

#include <string_view>

#include <sys/types.h>

namespace godwit::engine {

struct LayoutFile {
  enum class Kind {
    tree = 1,  // "pstree.img": the tree as it is now
    layout,    // "mm-PID": a layout, for which the files before it are
    reset,     // "reset-PID": another program runs there now
    gone,      // "gone-PID": that process has ended
    image,     // any other: a file that belongs to the next layout
  };
  Kind kind = Kind::image;
  pid_t pid = 0;  // of the process, where the name has one
};

// Errc::protocol for a name with a PID that is none.
LayoutFile layout_file_of(std::string_view name);

}  // namespace godwit::engine
