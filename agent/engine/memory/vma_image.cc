#include "agent/engine/memory/vma_image.h"

#include "agent/engine/memory/aio_ring.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/image/vma_status.h"

#include <array>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace godwit::engine {
namespace {

constexpr int map_droppable = 0x08;  // 6.11+; not in Debian 12's headers
constexpr int madv_wipeonfork = 18;

struct Advice {
  std::string_view flag;
  int advice;
};
constexpr std::array advices{
    Advice{"dc", MADV_DONTFORK},   Advice{"dd", MADV_DONTDUMP},   Advice{"hg", MADV_HUGEPAGE},
    Advice{"nh", MADV_NOHUGEPAGE}, Advice{"mg", MADV_MERGEABLE},  Advice{"wf", madv_wipeonfork},
    Advice{"rr", MADV_RANDOM},     Advice{"sr", MADV_SEQUENTIAL},
};

std::uint32_t status_of(const proc::Vma& vma) {
  switch (vma.kind) {
    case proc::VmaName::vdso:
      return image::vma_status::regular | image::vma_status::anon_private | image::vma_status::vdso;
    case proc::VmaName::vvar:
    case proc::VmaName::vvar_vclock:
      return image::vma_status::regular | image::vma_status::anon_private | image::vma_status::vvar;
    case proc::VmaName::vsyscall: return image::vma_status::vsyscall;
    case proc::VmaName::heap:
      return image::vma_status::regular | image::vma_status::anon_private | image::vma_status::heap;
    case proc::VmaName::stack:
      return image::vma_status::regular | image::vma_status::anon_private | image::vma_status::stack;
    case proc::VmaName::none:
    case proc::VmaName::anon:
    case proc::VmaName::anon_shmem:
    case proc::VmaName::other:
    case proc::VmaName::path: break;
  }
  if (is_aio_ring(vma)) return image::vma_status::regular | image::vma_status::aio_ring;
  if (is_memfd(vma))
    return image::vma_status::regular | image::vma_status::memfd |
           (vma.shared ? image::vma_status::file_shared : image::vma_status::file_private);
  if (is_shared_anonymous(vma)) return image::vma_status::regular | image::vma_status::anon_shared;
  if (vma.kind == proc::VmaName::path)
    return image::vma_status::regular | (vma.shared ? image::vma_status::file_shared : image::vma_status::file_private);
  return image::vma_status::regular | image::vma_status::anon_private;
}

std::string mapped_path(pid_t pid, const proc::Vma& vma) {
  return fmt::format("/proc/{}/map_files/{:x}-{:x}", pid, vma.start, vma.end);
}

bool has_object(std::uint32_t status) {
  return status & (image::vma_status::file_private | image::vma_status::file_shared | image::vma_status::anon_shared);
}

}  // namespace

void VmaFlags::learn(const std::vector<proc::VmaUsage>& usage) {
  by_start_.clear();
  for (const proc::VmaUsage& u : usage) by_start_.emplace(u.vma.start, std::pair(u.vma, u.flags));
}

const proc::VmFlags* VmaFlags::find(const proc::Vma& vma) const {
  const auto it = by_start_.find(vma.start);
  return it != by_start_.end() && it->second.first == vma ? &it->second.second : nullptr;
}

bool VmaFlags::covers(const std::vector<proc::Vma>& maps) const {
  for (const proc::Vma& vma : maps)
    if (!find(vma)) return false;
  return true;
}

bool kernel_vma(const proc::Vma& vma) {
  return vma.kind == proc::VmaName::vdso || vma.kind == proc::VmaName::vvar || vma.kind == proc::VmaName::vvar_vclock ||
         vma.kind == proc::VmaName::vsyscall;
}

bool is_memfd(const proc::Vma& vma) {
  return vma.kind == proc::VmaName::path && vma.deleted && vma.name.starts_with("/memfd:");
}

bool is_nameless_shm(const proc::Vma& vma) {
  return vma.kind == proc::VmaName::path && vma.deleted && vma.shared && vma.name.starts_with("/dev/shm/");
}

bool is_shared_anonymous(const proc::Vma& vma) {
  return vma.kind == proc::VmaName::anon_shmem || is_nameless_shm(vma) ||
         (vma.kind == proc::VmaName::path && vma.deleted && vma.shared && vma.name == "/dev/zero");
}

std::optional<VmaRefusal> refuse_vma(const proc::Vma& vma, const proc::VmFlags& flags) {
  static const VmaRefusal huge{"huge pages of a hugetlb pool are not carried",
                               "configure it to use transparent huge pages (madvise), which are"};
  if (kernel_vma(vma)) return std::nullopt;
  if (flags.has("ht")) return huge;
  if (flags.has("ss"))
    return VmaRefusal{"a shadow stack is not carried", "run it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off"};
  if (flags.has("um") || flags.has("ui"))
    return VmaRefusal{"the process handles its own page faults (userfaultfd)", "wait until it has closed it"};
  // Memory that may only be executed has a key of the kernel's own.
  if (flags.protection_key() && vma.prot != PROT_EXEC)
    return VmaRefusal{fmt::format("its protection key ({}) is not carried", flags.protection_key()),
                      "run it without protection keys (pkey_mprotect)"};
  if (flags.has("pf") || flags.has("io")) return VmaRefusal{"memory of a device cannot be carried", "close the device"};
  if (flags.has("sf")) return VmaRefusal{"memory of a persistent device (MAP_SYNC) is not carried", ""};
  if (vma.kind == proc::VmaName::other) return VmaRefusal{"a mapping of this kind is not known", ""};
  if (vma.kind != proc::VmaName::path) return std::nullopt;
  if (vma.deleted && vma.name.starts_with("/SYSV"))
    return VmaRefusal{"System V shared memory is not carried", "configure it to use anonymous or POSIX shared memory"};
  if (vma.deleted && vma.name.starts_with("/secretmem"))
    return VmaRefusal{"secret memory cannot be read by anybody else", "the program must give it up (memfd_secret)"};
  if (vma.deleted && vma.name.starts_with("/anon_hugepage")) return huge;
  if (vma.name.starts_with("anon_inode:")) return VmaRefusal{"a mapping of a kernel object is not carried", ""};
  if (vma.name.starts_with("socket:")) return VmaRefusal{"a mapped socket is not carried", ""};
  if (vma.deleted && !is_memfd(vma) && !is_shared_anonymous(vma) && !is_aio_ring(vma))
    return VmaRefusal{"the mapped file has been deleted", "restart it, if the file was replaced by an upgrade"};
  return std::nullopt;
}

UniqueFd open_mapped(pid_t pid, const proc::Vma& vma, int flags) { return open_file(mapped_path(pid, vma), flags); }

UniqueFd open_mapped_memory(pid_t pid, const proc::Vma& vma, int flags, struct stat& st) {
  UniqueFd fd = open_mapped(pid, vma, flags);
  check(::fstat(fd.get(), &st), "stat the mapping at {:#x}", vma.start);
  if (st.st_ino != vma.inode) fail(Errc::not_found, "the mapping at {:#x} is another one by now", vma.start);
  return fd;
}

// A shared mapping that may become writable (mprotect) needs a descriptor that allows it.
VmaImager::Key VmaImager::key_of(const proc::Vma& vma, const proc::VmFlags& flags) {
  return {vma.dev, static_cast<ino_t>(vma.inode), vma.name, vma.shared && flags.has("mw")};
}

void VmaImager::look_at(const proc::Vma& vma, const proc::VmFlags& flags) {
  if (!has_object(status_of(vma))) return;
  const Key key = key_of(vma, flags);
  // A memfd has a size and an owner, which may change.
  if (objects_.contains(key) && !is_memfd(vma) && !is_nameless_shm(vma)) return;
  const int access = std::get<bool>(key) ? O_RDWR : O_RDONLY;
  struct stat st{};
  if (is_shared_anonymous(vma)) {
    open_mapped_memory(pid_, vma, O_PATH, st);
    if (ids_.is_deleted(st.st_dev, st.st_ino))  // the descriptor would be of another file than the mapping
      throw Error(Errc::refused, fmt::format("{}: mapped and open, but deleted", vma.name), "close its descriptor");
    objects_[key] = ids_.shmid_for(st.st_dev, st.st_ino);
  } else if (is_memfd(vma)) {
    const UniqueFd fd = open_mapped_memory(pid_, vma, O_RDONLY, st);
    objects_[key] = ids_.memfd_for_mapping(fd.get(), st, access);
  } else if (const auto told = ids_.told_in_freeze(key); frozen_ && told) {
    objects_[key] = *told;
  } else {
    check(::stat(mapped_path(pid_, vma).c_str(), &st), "stat {}", vma.name);
    objects_[key] = ids_.file_for_mapping(vma.name, st, access, [&] { return open_mapped(pid_, vma, O_RDONLY); });
    if (frozen_) ids_.tell_in_freeze(key, objects_[key]);
  }
}

image::VmaEntry VmaImager::entry(const proc::Vma& vma, const proc::VmFlags& flags) const {
  image::VmaEntry e;
  e.set_start(vma.start);
  e.set_end(vma.end);
  const std::uint32_t status = status_of(vma);
  e.set_pgoff(has_object(status) ? vma.offset : 0);
  e.set_shmid(has_object(status) ? objects_.at(key_of(vma, flags)) : 0);
  if (status & (image::vma_status::file_private | image::vma_status::file_shared))
    e.set_fdflags(vma.shared && flags.has("mw") ? O_RDWR : O_RDONLY);  // what CRIU opens it with
  e.set_prot(static_cast<std::uint32_t>(vma.prot));
  int map = vma.shared ? MAP_SHARED : flags.has("dp") ? map_droppable : MAP_PRIVATE;
  if (!has_object(status) || (status & image::vma_status::anon_shared)) map |= MAP_ANONYMOUS;
  if (flags.has("gd")) map |= MAP_GROWSDOWN;
  if (flags.has("nr")) map |= MAP_NORESERVE;
  if (flags.has("lo")) map |= MAP_LOCKED;
  if (flags.has("lf")) e.set_locked_on_fault(true);
  if (flags.has("sl") && !kernel_vma(vma)) e.set_sealed(true);
  e.set_flags(static_cast<std::uint32_t>(map));
  e.set_status(status);
  e.set_fd(-1);
  std::uint64_t advice = 0;
  for (const Advice& a : advices)
    if (flags.has(a.flag)) advice |= std::uint64_t{1} << a.advice;
  if (advice) e.set_madv(advice);
  if (vma.kind == proc::VmaName::anon) e.set_anon_name(vma.name);
  return e;
}

}  // namespace godwit::engine
