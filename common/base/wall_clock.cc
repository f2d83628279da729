#include "common/base/wall_clock.h"

#include <cstdlib>
#include <fstream>

namespace godwit {
namespace {

std::chrono::seconds shift() {
  static const char* const file = std::getenv("GODWIT_CLOCK_FILE");
  if (!file) [[likely]]
    return {};
  long seconds = 0;
  std::ifstream(file) >> seconds;
  return std::chrono::seconds(seconds);
}

}  // namespace

std::chrono::system_clock::time_point wall_now() { return std::chrono::system_clock::now() + shift(); }

std::int64_t unix_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(wall_now().time_since_epoch()).count();
}

}  // namespace godwit
