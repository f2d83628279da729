// What is in a directory.
#pragma once

#include <string>
#include <vector>

namespace godwit {

// Without their order, "." and ".." with them.
std::vector<std::string> names_in(int dir);

}  // namespace godwit
