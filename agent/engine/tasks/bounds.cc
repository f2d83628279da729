#include "agent/engine/tasks/bounds.h"

#include "agent/engine/tasks/vdso_symbols.h"
#include "common/base/check.h"
#include "common/image/vma_status.h"

#include <algorithm>
#include <cstring>
#include <linux/prctl.h>

#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

namespace godwit::engine::tasks::bounds {
namespace {

constexpr int arch_map_vdso_64 = 0x2003;
constexpr int criu_auxv_words = 44;  // more is a corrupted image to it

// Shorter, where not all of it is mapped.
std::string read_memory(pid_t pid, std::uint64_t start, std::uint64_t end) {
  std::string content(end - start, '\0');
  const iovec local{content.data(), content.size()};
  const iovec remote{reinterpret_cast<void*>(start), content.size()};
  const ssize_t n = ::process_vm_readv(pid, &local, 1, &remote, 1, 0);
  content.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return content;
}

struct Areas {
  std::uint64_t first = ~std::uint64_t{0}, vdso = 0, vdso_end = 0;
};
Areas areas_of(const image::MmEntry& from) {
  Areas areas;
  for (const image::VmaEntry& e : from.vmas()) {
    if (e.status() & image::vma_status::vdso) {
      areas.vdso = e.start();
      areas.vdso_end = e.end();
    } else if (!(e.status() & image::vma_status::vvar)) {
      continue;
    }
    areas.first = std::min(areas.first, e.start());
  }
  return areas;
}

}  // namespace

void dump(const proc::Reader& proc, const proc::Stat& stat, resources::FileIds& ids, Inquiry& ask,
          image::MmEntry& into) {
  into.set_mm_start_code(stat.start_code);
  into.set_mm_end_code(stat.end_code);
  into.set_mm_start_data(stat.start_data);
  into.set_mm_end_data(stat.end_data);
  into.set_mm_start_stack(stat.start_stack);
  into.set_mm_start_brk(stat.start_brk);
  into.set_mm_brk(stat.start_brk);
  into.set_mm_arg_start(stat.arg_start);
  into.set_mm_arg_end(stat.arg_end);
  into.set_mm_env_start(stat.env_start);
  into.set_mm_env_end(stat.env_end);
  std::vector<std::uint64_t> auxv = proc.auxv();
  while (!auxv.empty() && auxv.back() == 0) auxv.pop_back();  // the end, which the kernel adds
  for (const std::uint64_t word : auxv)
    if (into.mm_saved_auxv_size() < criu_auxv_words)
      into.add_mm_saved_auxv(word);
    else
      into.add_more_auxv(word);
  UniqueFd exe = proc.open("exe", O_PATH);
  struct stat st{};
  check(::fstat(exe.get(), &st), "stat the executable");
  into.set_exe_file_id(ids.file_for_mapping(proc.link("exe"), st, O_RDONLY));
  const std::size_t brk = ask.batch().add("read the break", SYS_brk, 0);
  ask.then([&into, brk](const Batch& b) { into.set_mm_brk(static_cast<std::uint64_t>(b.result(brk))); });
}

void restore(Batch& batch, const image::MmEntry& from, int exe) {
  std::vector<std::uint64_t> auxv(from.mm_saved_auxv().begin(), from.mm_saved_auxv().end());
  auxv.insert(auxv.end(), from.more_auxv().begin(), from.more_auxv().end());
  auxv.resize((auxv.size() + 3) / 2 * 2);  // the value of the last pair may be 0; the end
  prctl_mm_map map{};
  map.start_code = from.mm_start_code();
  map.end_code = from.mm_end_code();
  map.start_data = from.mm_start_data();
  map.end_data = from.mm_end_data();
  map.start_brk = from.mm_start_brk();
  map.brk = from.mm_brk();
  map.start_stack = from.mm_start_stack();
  map.arg_start = from.mm_arg_start();
  map.arg_end = from.mm_arg_end();
  map.env_start = from.mm_env_start();
  map.env_end = from.mm_env_end();
  map.auxv = reinterpret_cast<__u64*>(raw(batch.put_bytes(std::as_bytes(std::span(auxv)))));
  map.auxv_size = static_cast<__u32>(auxv.size() * sizeof(std::uint64_t));
  map.exe_fd = static_cast<__u32>(exe);
  batch.add("set the bounds of the address space", SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, batch.put(map), sizeof map, 0);
}

void KernelAreas::restore(Batch& batch, const image::MmEntry& from) {
  const Areas areas = areas_of(from);
  if (areas.vdso) batch.add("map the vdso", SYS_arch_prctl, arch_map_vdso_64, areas.first);
}

void KernelAreas::check(const RemoteSyscalls& remote, const image::MmEntry& from, const std::string& functions) {
  const auto [first, vdso, vdso_end] = areas_of(from);
  if (!vdso) return;
  // The kernel puts it elsewhere, silently, when the place is taken; and another kernel's may differ in size.
  if (vdso_end - vdso != vdso_.size() || read_memory(remote.pid(), vdso, vdso_end) != vdso_) {
    const std::vector<proc::Vma> maps = proc::parse_maps(read_file(fmt::format("/proc/{}/maps", remote.pid())));
    const auto here = std::ranges::find(maps, proc::VmaName::vdso, &proc::Vma::kind);
    if (here == maps.end() || here->start != vdso || here->end != vdso_end)
      throw Error(Errc::unsupported, "this kernel's vdso does not have the layout of the source's",
                  "move to a node with the same kernel");
    vdso_ = read_memory(remote.pid(), vdso, vdso_end);
    if (vdso_.size() != vdso_end - vdso) fail(Errc::target_gone, "the vdso of process {} cannot be read", remote.pid());
    functions_ = vdso_symbols(vdso_);
  }
  if (!functions.empty() && functions != functions_)
    throw Error(Errc::unsupported, "this kernel's vdso has its functions elsewhere than the source's",
                "move to a node with the same kernel");
}

}  // namespace godwit::engine::tasks::bounds
