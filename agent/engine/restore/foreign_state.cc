#include "agent/engine/restore/foreign_state.h"

#include "agent/engine/resources/fd_kinds.h"
#include "agent/engine/resources/inet_socket.h"
#include "agent/engine/resources/terminal_images.h"
#include "agent/engine/tasks/filters.h"
#include "common/base/error.h"
#include "common/image/core.pb.h"
#include "common/image/files.pb.h"
#include "common/image/inventory.pb.h"
#include "common/image/mm.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/remap.pb.h"
#include "common/image/task_state.h"
#include "common/image/tty.pb.h"
#include "common/image/unknown_fields.h"
#include "common/image/vma_status.h"

#include <algorithm>
#include <set>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace godwit::engine {
namespace {

constexpr std::uint32_t no_login = 0xffffffff;

struct Stem {
  std::string_view stem;
  std::string_view what;
};

// Images of CRIU for which we have no kind.
constexpr Stem unknown_images[] = {
    {"tty", "terminals"},          {"mountpoints", "a mount namespace"},   {"tmpfs-", "the content of a mounted tmpfs"},
    {"utsns", "a UTS namespace"},  {"ipcns", "System V IPC objects"},      {"userns", "a user namespace"},
    {"pidns", "a PID namespace"},  {"net", "a network namespace"},         {"apparmor", "AppArmor profiles"},
    {"bpfmap", "BPF maps"},        {"fanotify", "fanotify marks"},         {"packetsk", "packet sockets"},
    {"autofs", "an autofs mount"}, {"binfmt-misc", "a binfmt_misc mount"},
};

// Belong to a namespace whose main image is named already, or say nothing about a task.
constexpr std::string_view silent_images[] = {"ifaddr",    "route",    "rule",   "iptables",
                                              "ip6tables", "nftables", "netdev", "irmap-cache"};

class Findings {
 public:
  void refuse(std::string what) {
    if (std::ranges::find(refusals_, what) == refusals_.end()) refusals_.push_back(std::move(what));
  }
  void notice(std::string what) { notices_.push_back(std::move(what)); }

  std::vector<std::string> finish() {
    if (refusals_.empty()) return std::move(notices_);
    std::string all;
    for (const std::string& r : refusals_) all += (all.empty() ? "" : "; ") + r;
    throw Error(Errc::refused, all, "restore these images with the program that wrote them");
  }

 private:
  std::vector<std::string> refusals_;
  std::vector<std::string> notices_;
};

void look_at_names(const image::ImageSet& images, Findings& found) {
  for (const auto& [name, bytes] : images.files()) {
    if (image::parse_file_name(name)) continue;
    if (std::ranges::any_of(silent_images, [&](std::string_view s) { return name.starts_with(s); })) continue;
    if (name == "cgroup.img") {
      found.notice("cgroup.img: the process stays in the cgroup that it is restored in");
      continue;
    }
    const auto known = std::ranges::find_if(unknown_images, [&](const Stem& s) { return name.starts_with(s.stem); });
    found.refuse(known == std::end(unknown_images) ? fmt::format("{}: an image of an unknown kind", name)
                                                   : fmt::format("{}: {} cannot be restored", name, known->what));
  }
}

void look_at_process(const std::string& name, const image::TaskCoreEntry& tc, Findings& found) {
  namespace state = image::task_state;
  if (tc.task_state() != state::alive && tc.task_state() != state::stopped && tc.task_state() != state::dead)
    found.refuse(fmt::format("{}: a process in state {} cannot be restored", name, tc.task_state()));
  if (tc.has_loginuid() && tc.loginuid() != no_login)
    found.notice(fmt::format("{}: the login user {} of the audit system is not restored", name, tc.loginuid()));
}

void look_at_thread(const std::string& name, const image::CoreEntry& core, const tasks::filters::Stored& filters,
                    Findings& found) {
  const Doing doing("{}", name);
  if (!core.has_thread_info() || !core.has_thread_core())
    fail(Errc::image_corrupt, "no registers, or no state of the thread");
  if (core.thread_info().gpregs().mode() == image::X86_COMPAT)
    found.refuse(fmt::format("{}: 32-bit code cannot be restored", name));
  for (const image::UserDesc& segment : core.thread_info().tls())
    if (!segment.seg_not_present() && segment.usable())
      found.refuse(fmt::format("{}: thread-local segments (set_thread_area) cannot be restored", name));
  filters.chain_of(core.thread_core(), core.thread_core());  // it is there
  if (core.tc().old_seccomp_mode() != image::SECCOMP_OFF)
    found.refuse(fmt::format("{}: seccomp of a process as a whole cannot be restored", name));
  if (core.thread_info().fpregs().xsave().cet().cet() != 0)
    found.refuse(fmt::format("{}: a shadow stack cannot be restored", name));
}

void look_at_memory(const std::string& name, const image::MmEntry& mm, Findings& found) {
  namespace status = image::vma_status;
  constexpr std::pair<std::uint32_t, std::string_view> kinds[] = {
      {status::sysvipc, "System V shared memory"},
      {status::socket, "a mapped socket"},
      {status::shadow_stack, "a shadow stack"},
      {status::uprobes, "probes of a tracer"},
  };
  for (const image::VmaEntry& vma : mm.vmas())
    for (const auto& [bit, what] : kinds)
      if (vma.status() & bit) found.refuse(fmt::format("{}: {} at {:#x} cannot be restored", name, what, vma.start()));
  for (const image::AioRingEntry& context : mm.aios()) {
    const auto ring = std::ranges::find(mm.vmas(), context.id(), &image::VmaEntry::start);
    if (ring == mm.vmas().end() || !(ring->status() & status::aio_ring))
      found.refuse(fmt::format("{}: the AIO context at {:#x} has no ring", name, context.id()));
  }
}

bool is_connection(const image::FileEntry& file) {
  const image::InetSkEntry& socket = file.isk();
  return file.has_isk() && socket.type() == SOCK_STREAM && socket.proto() == IPPROTO_TCP &&
         socket.state() != TCP_LISTEN && socket.state() != TCP_CLOSE;
}

void look_at_connection(const image::FileEntry& file, Connections connections, Findings& found) {
  const std::string what = fmt::format("files.img: file {} is a TCP connection ({})", file.id(),
                                       resources::inet_socket::tcp_state_name(static_cast<int>(file.isk().state())));
  if (connections == Connections::closed)
    found.notice(what + ": it is restored closed");
  else
    found.refuse(what + ", which cannot be restored (--tcp-close restores it closed)");
}

void look_at_terminals(const image::ImageSet& images, int replaced, Findings& found) {
  constexpr std::uint32_t master = 5 << 8 | 2;  // device number
  std::set<std::uint32_t> masters;
  if (replaced >= 0) masters.insert(static_cast<std::uint32_t>(replaced));
  const auto all = images.records<image::TtyInfoEntry>(image::Kind::tty_info);
  for (const image::TtyInfoEntry& info : all)
    if (info.rdev() == master) masters.insert(info.pty().index());
  for (const image::TtyInfoEntry& info : all) {
    const bool current = info.type() == image::TTY_CURRENT;
    const auto index = current ? resources::current_index(info, all) : std::optional(info.pty().index());
    if (!index)
      found.refuse(
          fmt::format("tty-info.img: terminal {} was opened as /dev/tty, by a session that has none there", info.id()));
    else if (info.type() != image::TTY_PTY && !current)
      found.refuse(fmt::format("tty-info.img: terminal {} of type {} cannot be restored", info.id(),
                               image::TtyType_Name(info.type())));
    else if (!masters.contains(*index))
      found.refuse(fmt::format("tty-info.img: the other end of /dev/pts/{} is not in the images", *index));
  }
}

// Whoever dumped with --tcp-close has agreed to it already.
Connections agreed(const image::ImageSet& images, Connections connections) {
  if (!images.has(image::Kind::inventory)) return connections;
  const bool closed = images.get<image::InventoryEntry>(image::Kind::inventory).tcp_close();
  return closed ? Connections::closed : connections;
}

void look_at_files(const image::ImageSet& images, Connections connections, Findings& found) {
  for (const auto& file : images.records<image::FileEntry>(image::Kind::files)) {
    const auto kinds = resources::fd_kinds();
    if (std::ranges::find(kinds, file.type(), &resources::FdKind::type) == kinds.end())
      found.refuse(
          fmt::format("files.img: file {} of type {} cannot be restored", file.id(), image::FdType_Name(file.type())));
    if (is_connection(file)) look_at_connection(file, connections, found);
  }
  for (const auto& remap : images.records<image::RemapFilePathEntry>(image::Kind::remap_fpath))
    if (remap.remap_type() != image::REMAP_GHOST)
      found.refuse(fmt::format("remap-fpath.img: file {} was kept by {}", remap.orig_id(),
                               image::RemapType_Name(remap.remap_type())));
}

}  // namespace

std::vector<std::string> refuse_foreign_state(const image::ImageSet& images, Connections connections, int replaced) {
  Findings found;
  look_at_names(images, found);
  const tasks::filters::Stored filters(images);
  std::vector<std::uint32_t> oldest_filters;  // of each thread
  std::set<std::uint32_t> memories;
  bool first = true;
  for (const auto& process : images.records<image::PstreeEntry>(image::Kind::pstree)) {
    bool ended = false;
    for (const std::uint32_t tid : process.threads()) {
      const std::string name = image::file_name(image::Kind::core, tid);
      const auto& core = images.view<image::CoreEntry>(image::Kind::core, tid);
      if (tid == process.pid()) {
        look_at_process(name, core.tc(), found);
        ended = core.tc().task_state() == image::task_state::dead;
      }
      if (ended) continue;
      look_at_thread(name, core, filters, found);
      if (core.thread_core().has_seccomp_filter()) oldest_filters.push_back(core.thread_core().seccomp_filter());
    }
    if (ended && first) found.refuse(fmt::format("pstree.img: process {}, the first one, has ended", process.pid()));
    first = false;
    if (ended) continue;
    const std::uint64_t pid = process.pid();
    if (process.has_memory_of()) continue;
    look_at_memory(image::file_name(image::Kind::mm, pid), images.view<image::MmEntry>(image::Kind::mm, pid), found);
    const auto ids = images.get<image::TaskKobjIdsEntry>(image::Kind::ids, pid);
    if (!memories.insert(ids.vm_id()).second)
      found.refuse(fmt::format("{}: memory that is shared by processes cannot be restored",
                               image::file_name(image::Kind::ids, pid)));
  }
  filters.require_owners(oldest_filters);
  if (const auto reason = filters.refusal())
    found.refuse(fmt::format("{}: {}", image::file_name(image::Kind::seccomp, 0), *reason));
  look_at_terminals(images, replaced, found);
  look_at_files(images, agreed(images, connections), found);
  for (const std::string& field : image::unknown_fields(images))
    found.notice(fmt::format("{}: a field of another version, which is not restored", field));
  return found.finish();
}

}  // namespace godwit::engine
