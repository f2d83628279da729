#include "common/proc/maps.h"

#include "common/proc/text.h"

#include <sys/mman.h>
#include <sys/sysmacros.h>

namespace godwit::proc {
namespace {

constexpr std::string_view deleted_mark = " (deleted)";

void name_special(std::string_view name, Vma& vma) {
  struct Known {
    std::string_view name;
    VmaName kind;
  };
  static constexpr Known known[] = {
      {"[heap]", VmaName::heap},
      {"[stack]", VmaName::stack},
      {"[vdso]", VmaName::vdso},
      {"[vvar]", VmaName::vvar},
      {"[vvar_vclock]", VmaName::vvar_vclock},
      {"[vsyscall]", VmaName::vsyscall},
  };
  for (const Known& k : known) {
    if (k.name != name) continue;
    vma.kind = k.kind;
    return;
  }
  const auto inside = [&](std::string_view head) { return name.substr(head.size(), name.size() - head.size() - 1); };
  if (name.ends_with(']') && name.starts_with("[anon:")) {
    vma.kind = VmaName::anon;
    vma.name = inside("[anon:");
  } else if (name.ends_with(']') && name.starts_with("[anon_shmem:")) {
    vma.kind = VmaName::anon_shmem;
    vma.name = inside("[anon_shmem:");
  } else {
    vma.kind = VmaName::other;
    vma.name = name;
  }
}

void name_path(std::string_view path, Vma& vma) {
  vma.kind = VmaName::path;
  if (path.ends_with(deleted_mark)) {
    vma.deleted = true;
    path.remove_suffix(deleted_mark.size());
  }
  // The kernel escapes the newline and nothing else here, not even the backslash.
  vma.name = unescape_octal(path, "\n");
}

int parse_prot(std::string_view perms, Vma& vma, const Scanner& scan) {
  const auto one_of = [&](std::size_t i, char yes) {
    if (perms[i] != yes && perms[i] != '-') scan.bad();
    return perms[i] == yes;
  };
  if (perms.size() != 4 || (perms[3] != 's' && perms[3] != 'p')) scan.bad();
  vma.shared = perms[3] == 's';
  return (one_of(0, 'r') ? PROT_READ : 0) | (one_of(1, 'w') ? PROT_WRITE : 0) | (one_of(2, 'x') ? PROT_EXEC : 0);
}

std::uint64_t kilobytes(std::string_view line, std::string_view value) {
  const auto n = Scanner("smaps", value).dec<std::uint64_t>();
  if (n > (UINT64_MAX >> 10)) malformed("smaps", line);
  return n << 10;
}

bool is_attribute(std::string_view line) { return !line.empty() && line[0] >= 'A' && line[0] <= 'Z'; }

void add_attribute(std::string_view line, VmaUsage& usage) {
  const std::optional<KeyValue> kv = key_value(line);
  if (!kv) return;
  if (kv->key == "Rss") usage.rss = kilobytes(line, kv->value);
  if (kv->key == "KernelPageSize") usage.page_size = kilobytes(line, kv->value);
  if (kv->key == "Anonymous") usage.anonymous = kilobytes(line, kv->value);
  if (kv->key == "Swap") usage.swap = kilobytes(line, kv->value);
  if (kv->key == "Locked") usage.locked = kilobytes(line, kv->value);
  if (kv->key == "ProtectionKey") usage.protection_key = Scanner("smaps", kv->value).dec<unsigned>();
  if (kv->key == "VmFlags") usage.flags = VmFlags(kv->value, usage.protection_key);  // the last line
}

}  // namespace

Vma parse_vma(std::string_view line) {
  Scanner scan("maps", line);
  Vma vma;
  vma.start = scan.hex<std::uint64_t>();
  scan.expect("-");
  vma.end = scan.hex<std::uint64_t>();
  if (vma.start >= vma.end || vma.start % 4096 != 0 || vma.end % 4096 != 0) scan.bad();
  vma.prot = parse_prot(scan.word(), vma, scan);
  vma.offset = scan.hex<std::uint64_t>();
  const auto major_number = scan.hex<unsigned>();
  scan.expect(":");
  const auto minor_number = scan.hex<unsigned>();
  vma.dev = ::makedev(major_number, minor_number);
  vma.inode = scan.dec<std::uint64_t>();
  const std::string_view name = scan.rest();
  if (name.starts_with('['))
    name_special(name, vma);
  else if (!name.empty())
    name_path(name, vma);
  return vma;
}

std::vector<Vma> parse_maps(std::string_view text) {
  std::vector<Vma> vmas;
  while (const auto line = next_line(text)) {
    Vma vma = parse_vma(*line);
    // The text of a running process is read in pieces: a mapping that changes meanwhile may be shown twice. The later
    // line is the truer one.
    while (!vmas.empty() && vma.start < vmas.back().end) vmas.pop_back();
    vmas.push_back(std::move(vma));
  }
  return vmas;
}

VmFlags::VmFlags(std::string_view text, unsigned protection_key) : protection_key_(protection_key) {
  Scanner scan("smaps", text);
  while (!scan.done()) {
    const std::string_view flag = scan.word();
    if (flag.size() != 2) scan.bad();
    text_.append(flag).append(" ");
  }
}

bool VmFlags::has(std::string_view two_letters) const {
  for (std::size_t i = 0; i < text_.size(); i += 3)
    if (std::string_view(text_).substr(i, 2) == two_letters) return true;
  return false;
}

std::vector<VmaUsage> parse_smaps(std::string_view text) {
  std::vector<VmaUsage> all;
  while (const auto line = next_line(text)) {
    if (is_attribute(*line)) {
      if (all.empty()) malformed("smaps", *line);
      add_attribute(*line, all.back());
      continue;
    }
    VmaUsage usage{.vma = parse_vma(*line)};
    while (!all.empty() && usage.vma.start < all.back().vma.end) all.pop_back();
    all.push_back(std::move(usage));
  }
  return all;
}

}  // namespace godwit::proc
