// Where the processes came from that were taken into a cgroup for a migration: a note on disk, one line for each,
// written before they are moved and gone when they are back. Whoever finds one knows whom to bring home.
//
// Synchronous. Errors: image_corrupt for what is no such note, busy when the cgroup stays in use, and what the kernel
// says.
#pragma once

#include "agent/workload/cgroup.h"

#include <cstdint>
#include <string>
#include <vector>

namespace godwit::workload {

struct Home {
  pid_t pid = 0;
  std::uint64_t start_time = 0;
  std::string cgroup;  // absolute
};

std::string note_of(const std::vector<Home>& homes);
std::vector<Home> parse_homes(const std::string& text);

void note_homes(const std::string& note, const std::vector<Home>& homes);  // on disk when this returns

// Everybody in `copy` goes where he came from; who was born meanwhile goes with the one who has born him, or else with
// the first of the note. Then the cgroup, which is in use for a moment after its last process has gone, and the note
// are removed; `tries` are a millisecond apart. Nothing is done when there is no note.
void bring_home(const std::string& copy, const std::string& note, int tries);

}  // namespace godwit::workload
