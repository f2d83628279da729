#include "agent/engine/resources/needed_files.h"

#include "common/base/fd.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include <elf.h>

namespace godwit::engine::resources {
namespace {

constexpr std::size_t max_headers = 256;  // of a file that is not hostile
constexpr std::size_t max_notes = 64 << 10;

bool read_at(int fd, void* into, std::size_t size, std::uint64_t offset) {
  return ::pread(fd, into, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
}

// Walks the notes of one segment for the build-id.
std::string build_id_in(std::string_view notes) {
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;
    std::memcpy(&note, notes.data(), sizeof note);
    notes.remove_prefix(sizeof note);
    const std::uint64_t name = (std::uint64_t{note.n_namesz} + 3) & ~std::uint64_t{3};
    const std::uint64_t content = (std::uint64_t{note.n_descsz} + 3) & ~std::uint64_t{3};
    if (name + note.n_descsz > notes.size()) return {};
    if (note.n_type == NT_GNU_BUILD_ID && notes.substr(0, note.n_namesz) == std::string_view("GNU\0", 4)) {
      return std::string(notes.substr(name, note.n_descsz));
    }
    notes.remove_prefix(std::min<std::uint64_t>(name + content, notes.size()));
  }
  return {};
}

std::string type_name(std::uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return "a regular file";
    case S_IFDIR: return "a directory";
    case S_IFCHR: return "a character device";
    case S_IFBLK: return "a block device";
    case S_IFIFO: return "a fifo";
    case S_IFSOCK: return "a socket";
    default: return "something else";
  }
}

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text.empty() ? "none" : text;
}

void compare(const NeededFile& file, std::vector<std::string>& differences) {
  const int raw = ::open(file.path.c_str(), O_PATH | O_CLOEXEC | (S_ISLNK(file.mode) ? O_NOFOLLOW : 0));
  if (raw < 0) {
    differences.push_back(fmt::format("{}: {} here", file.path, errno == ENOENT ? "missing" : std::strerror(errno)));
    return;
  }
  const UniqueFd fd(raw);
  struct stat st{};
  check(::fstat(fd.get(), &st), "stat {}", file.path);
  if ((st.st_mode & S_IFMT) != (file.mode & S_IFMT)) {
    differences.push_back(
        fmt::format("{}: {} here, {} at the source", file.path, type_name(st.st_mode), type_name(file.mode)));
    return;
  }
  if ((st.st_mode & 07777) != (file.mode & 07777)) {
    differences.push_back(
        fmt::format("{}: mode {:04o} here, {:04o} at the source", file.path, st.st_mode & 07777, file.mode & 07777));
  }
  if (!S_ISREG(st.st_mode)) return;
  if (!file.writable && static_cast<std::uint64_t>(st.st_size) != file.size) {
    differences.push_back(fmt::format("{}: {} bytes here, {} at the source", file.path, st.st_size, file.size));
  }
  if (file.build_id.empty()) return;
  // O_PATH above follows no device and waits for nobody; only a regular file is opened for reading.
  const std::string here = elf_build_id(open_file(fmt::format("/proc/self/fd/{}", fd.get()), O_RDONLY).get());
  if (here != file.build_id) {
    differences.push_back(
        fmt::format("{}: build-id {} here, {} at the source", file.path, hex(here), hex(file.build_id)));
  }
}

}  // namespace

std::string elf_build_id(int fd) {
  Elf64_Ehdr elf;
  if (!read_at(fd, &elf, sizeof elf, 0) || std::memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0) return {};
  if (elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_phentsize != sizeof(Elf64_Phdr)) return {};
  for (std::size_t i = 0; i < std::min<std::size_t>(elf.e_phnum, max_headers); ++i) {
    Elf64_Phdr header;
    if (!read_at(fd, &header, sizeof header, elf.e_phoff + i * sizeof header)) return {};
    if (header.p_type != PT_NOTE || header.p_filesz > max_notes) continue;
    std::string notes(header.p_filesz, '\0');
    if (!read_at(fd, notes.data(), notes.size(), header.p_offset)) continue;
    if (std::string id = build_id_in(notes); !id.empty()) return id;
  }
  return {};
}

NeededFile describe_file(int fd, std::string path, BuildId build_id) {
  struct stat st{};
  check(::fstat(fd, &st), "stat {}", path);
  NeededFile file;
  file.path = std::move(path);
  file.size = static_cast<std::uint64_t>(st.st_size);
  file.mode = st.st_mode;
  if (build_id == BuildId::read && S_ISREG(st.st_mode)) file.build_id = elf_build_id(fd);
  file.device = st.st_dev;
  file.inode = st.st_ino;
  return file;
}

std::vector<std::string> check_files(const std::vector<NeededFile>& files) {
  std::vector<std::string> differences;
  for (const NeededFile& file : files) compare(file, differences);
  return differences;
}

}  // namespace godwit::engine::resources
