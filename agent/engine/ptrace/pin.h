// On which CPUs this thread runs, until the end of a scope.
#pragma once

#include <array>
#include <cstddef>

#include <sys/types.h>

namespace godwit::engine {

// Puts back what was, in the end. Scopes of these end in the reverse order.
class Affinity {
 public:
  Affinity();
  ~Affinity();
  Affinity(const Affinity&) = delete;
  Affinity& operator=(const Affinity&) = delete;

  int cpu() const { return cpu_; }  // where it was at the beginning; -1: that is not known
  void changed() { changed_ = true; }

 private:
  int cpu_ = -1;
  bool changed_ = false;
  std::array<std::byte, 128> before_{};
};

// On the CPU where it is now: a tracer and its tracee on one CPU hand over to each other in 6-8 us, on two it is 60.
class Pin {
 public:
  Pin();

  // Brings another thread here; it stays until somebody moves it. A cpuset may forbid it: slower, nothing else.
  void bring(pid_t tid) const;
  // Whether this is the affinity of who was brought.
  bool is_place(const std::array<std::byte, 128>& affinity) const;

 private:
  Affinity affinity_;
  bool active_ = false;
};

// On any CPU but the one where it is now; where there is no other, it stays.
class Aside {
 public:
  Aside();

 private:
  Affinity affinity_;
};

}  // namespace godwit::engine
