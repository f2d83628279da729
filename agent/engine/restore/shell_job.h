// A tree that was started from a shell (--shell-job): what it has of the shell's, by its images. A restore gives it the
// same of whoever asks for it: the session, the process group where nobody of the tree leads it, and the terminal.
#pragma once

#include "common/image/image_set.h"
#include "common/image/tty.pb.h"

#include <optional>

namespace godwit::engine {

struct ShellJob {
  int terminal = -1;        // /dev/pts/TERMINAL, whose master is not in the images; -1: there is none
  bool controlled = false;  // it controls the root's session
  // That session becomes the caller's: it is controlled by the terminal, or, where there is none, somebody else's.
  bool in_session = false;
};

// Errc::unsupported when there are several such terminals, or one that controls another session of the tree.
ShellJob shell_job_of(const image::ImageSet& images);

// What the images say of the terminal; nothing when nobody had it open.
std::optional<image::TtyInfoEntry> describe_terminal(const ShellJob& job, const image::ImageSet& images);

}  // namespace godwit::engine
