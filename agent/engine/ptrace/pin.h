// This thread on the CPU where it is now, until the end of the scope: a tracer and its tracee on one CPU hand over to
// each other in 6-8 us, on two it is 60.
#pragma once

#include <array>
#include <cstddef>

#include <sys/types.h>

namespace godwit::engine {

class Pin {
 public:
  Pin();
  ~Pin();
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;

  bool active() const { return cpu_ >= 0; }
  // Brings another thread here; it stays until somebody moves it. A cpuset may forbid it: slower, nothing else.
  void bring(pid_t tid) const;

 private:
  int cpu_ = -1;
  std::array<std::byte, 128> before_{};
};

// This thread on any CPU but the one where it is now, until the end of the scope; where there is no other, it stays.
class Aside {
 public:
  Aside();
  ~Aside();
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;

 private:
  bool moved_ = false;
  std::array<std::byte, 128> before_{};
};

}  // namespace godwit::engine
