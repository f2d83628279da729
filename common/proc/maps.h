// /proc/PID/maps and smaps. Text in, values out; addresses and offsets are bytes.
//
// Errors: Errc::internal for text that no kernel writes. Fields and lines that newer kernels add are ignored. The text
// of a running process is read in pieces, so a mapping that changes meanwhile may be shown twice: the later line
// stands.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace godwit::proc {

// What the name column says.
enum class VmaName {
  none = 1,  // anonymous, no name
  path,      // a file, also memfds, shared anonymous memory ("/dev/zero", deleted) and SysV segments
  heap,
  stack,
  vdso,
  vvar,
  vvar_vclock,
  vsyscall,
  anon,        // [anon:NAME], private; `name` is NAME
  anon_shmem,  // [anon_shmem:NAME], shared anonymous memory that was given a name
  other,       // any other [name], kept whole in `name`
};

struct Vma {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  int prot = 0;  // PROT_READ | PROT_WRITE | PROT_EXEC
  bool shared = false;
  std::uint64_t offset = 0;
  dev_t dev = 0;
  std::uint64_t inode = 0;
  VmaName kind = VmaName::none;
  std::string name;      // path, or NAME of anon and anon_shmem
  bool deleted = false;  // the path ended in " (deleted)": of a file that has this in its very name, stat tells

  std::uint64_t size() const { return end - start; }
  bool operator==(const Vma&) const = default;
};

Vma parse_vma(std::string_view line);
std::vector<Vma> parse_maps(std::string_view text);  // ascending

// What only smaps says of a mapping: the two-letter flags of its VmFlags line ("rd", "gd" (grows down), "dc", "uw" and
// so on), and its protection key.
class VmFlags {
 public:
  VmFlags() = default;
  explicit VmFlags(std::string_view text, unsigned protection_key = 0);
  bool has(std::string_view two_letters) const;
  const std::string& text() const { return text_; }
  unsigned protection_key() const { return protection_key_; }
  bool operator==(const VmFlags&) const = default;

 private:
  std::string text_;  // "rd wr mr " with one blank behind each
  unsigned protection_key_ = 0;
};

struct VmaUsage {
  Vma vma;
  std::uint64_t page_size = 0;  // of the mapping: 2 MiB for hugetlb
  std::uint64_t rss = 0;
  std::uint64_t anonymous = 0;
  std::uint64_t swap = 0;
  std::uint64_t locked = 0;
  unsigned protection_key = 0;
  VmFlags flags;
};

// Costs the kernel O(resident pages): read it before a freeze, not inside.
std::vector<VmaUsage> parse_smaps(std::string_view text);

}  // namespace godwit::proc
