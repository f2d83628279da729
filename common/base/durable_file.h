// Files that a crash leaves as they were or as they were to be, never half written.
//
// Until it is whole, what is written has ".new" behind its name. One writer at a time for each file. Errors: what the
// kernel says.
#pragma once

#include <string>
#include <string_view>

namespace godwit {

// For what a reboot makes void anyway: the death of this process leaves one of the two.
void replace_file(const std::string& path, std::string_view data);

// The same, and on the disk under its name when this returns.
void replace_file_durably(const std::string& path, std::string_view data);

// What a crash in the middle of these has left in a directory.
void remove_unfinished(const std::string& directory);

}  // namespace godwit
