// For tests: a fault that happens once, in this process, armed while the object lives.
#pragma once

#include "common/base/fd.h"

#include <cstdlib>
#include <string>

#include <unistd.h>

namespace godwit::service {

// Named before any fault point looks for it; the file is there only while a test arms something.
inline const std::string fault_file = fmt::format("/tmp/godwit-agent-test-{}", ::getpid());
inline const int fault_file_is_named = ::setenv("GODWIT_FAULT_FILE", fault_file.c_str(), 1);

struct ArmedFault {
  explicit ArmedFault(const std::string& text) { write_file(fault_file, text); }
  ~ArmedFault() { ::unlink(fault_file.c_str()); }
  ArmedFault(const ArmedFault&) = delete;
  ArmedFault& operator=(const ArmedFault&) = delete;

  bool has_struck() const { return ::access(fault_file.c_str(), F_OK) != 0; }
};

}  // namespace godwit::service
