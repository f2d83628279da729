#include "tests/fuzz/fuzz.h"

#include "common/base/error.h"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    godwit::fuzz({reinterpret_cast<const char*>(data), size});
  } catch (const godwit::Error&) {
  }
  return 0;
}
