// When the engine ends catching up before a freeze, for those who foretell it: the rules of agent/engine/dump.cc.
#pragma once

#include <limits>

namespace godwit::coordinator {

class CatchingUp {
 public:
  // More is no tail of what was sent: it is left to the pause.
  static bool begins(double dirty_bytes) { return dirty_bytes <= 256.0 * (1 << 20); }

  // After a round: is there another one?
  bool goes_on(double sent_bytes, double seconds) {
    passed_s_ += seconds;
    const bool shrinks = sent_bytes < 0.8 * before_;
    before_ = sent_bytes;
    return sent_bytes > 64 * 4096 && shrinks && ++rounds_ < 10 && passed_s_ < 1;
  }

 private:
  double before_ = std::numeric_limits<double>::infinity();
  double passed_s_ = 0;
  unsigned rounds_ = 0;
};

}  // namespace godwit::coordinator
