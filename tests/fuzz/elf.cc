// What is read of ELF files: a vdso out of an image, and the build-id of whatever a program has mapped.

#include "agent/engine/resources/needed_files.h"
#include "agent/engine/tasks/vdso_symbols.h"
#include "common/base/check.h"
#include "common/base/fd.h"

#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>

namespace godwit {

void fuzz(std::string_view input) {
  static const UniqueFd file(check(::memfd_create("elf", MFD_CLOEXEC), "create a memfd"));
  check(::ftruncate(file.get(), 0), "empty a memfd");
  pwrite_all(file.get(), std::as_bytes(std::span(input)), 0);
  require(engine::resources::elf_build_id(file.get()).size() <= input.size());
  require(engine::tasks::vdso_symbols(input).size() < (1u << 20));
}

}  // namespace godwit
