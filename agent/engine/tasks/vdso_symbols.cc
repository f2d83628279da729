#include "agent/engine/tasks/vdso_symbols.h"

#include "common/base/error.h"

#include <cstdint>
#include <cstring>
#include <elf.h>

namespace godwit::engine::tasks {
namespace {

// Far beyond any kernel's, and little enough that a forged one takes neither time nor memory.
constexpr unsigned most_sections = 256, most_symbols = 1024;
constexpr std::size_t longest_name = 256;

template <class T>
T load(std::string_view from, std::uint64_t at) {
  T value{};
  if (from.size() < sizeof value || at > from.size() - sizeof value)
    fail(Errc::image_corrupt, "the vdso's ELF structures point outside of it");
  std::memcpy(&value, from.data() + at, sizeof value);
  return value;
}

std::string_view name_at(std::string_view vdso, std::uint64_t at) {
  if (at >= vdso.size()) fail(Errc::image_corrupt, "the vdso has a symbol's name outside of it");
  const std::string_view rest = vdso.substr(at, longest_name + 1);
  const std::size_t length = rest.find('\0');
  if (length == std::string_view::npos) fail(Errc::image_corrupt, "the vdso has a symbol's name that does not end");
  return rest.substr(0, length);
}

}  // namespace

std::string vdso_symbols(std::string_view vdso) {
  std::string symbols;
  unsigned count = 0;
  const auto head = load<Elf64_Ehdr>(vdso, 0);
  if (head.e_shnum > most_sections) fail(Errc::image_corrupt, "the vdso claims to have {} sections", head.e_shnum);
  for (unsigned i = 0; i < head.e_shnum; i++) {
    const auto section = load<Elf64_Shdr>(vdso, head.e_shoff + i * sizeof(Elf64_Shdr));
    if (section.sh_type != SHT_DYNSYM) continue;
    const auto strings = load<Elf64_Shdr>(vdso, head.e_shoff + section.sh_link * sizeof(Elf64_Shdr));
    for (std::uint64_t at = 0; at + sizeof(Elf64_Sym) <= section.sh_size; at += sizeof(Elf64_Sym)) {
      if (++count > most_symbols) fail(Errc::image_corrupt, "the vdso has more than {} symbols", most_symbols);
      const auto symbol = load<Elf64_Sym>(vdso, section.sh_offset + at);
      symbols += fmt::format("{} {:#x}\n", name_at(vdso, strings.sh_offset + symbol.st_name), symbol.st_value);
    }
  }
  return symbols;
}

}  // namespace godwit::engine::tasks
