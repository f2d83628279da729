#pragma once
// What the kernel says about an open file, apart from what can be read from it: for comparing before and after a move.

#include <initializer_list>
#include <map>
#include <string>

namespace godwit::workloads {

// Who gets SIGIO, as whom it was asked for, and which signal it is instead of SIGIO.
std::string owner_of(int fd);

// The lines of /proc/self/fdinfo that begin so, in alphabetical order, with "ino:" and "sdev:" left out (they are
// another host's business).
std::string fdinfo(int fd, std::initializer_list<const char*> beginnings);

// Every option of a socket that can be asked for, "LEVEL/NAME" -> value; without counters, and what is the host's.
std::map<std::string, std::string> socket_options(int fd);

class Workload;
void compare_options(Workload& w, const char* socket, const std::map<std::string, std::string>& before, int fd);

}  // namespace godwit::workloads
