#include "agent/engine/resources/file_entry.h"

#include "common/base/error.h"

namespace godwit::engine::resources {
namespace {

// Calls `use` with the member that the type names. A fifo's own record has neither flags nor owner: its path has.
template <class Use>
auto with_member(const image::FileEntry& entry, Use use) {
  switch (entry.type()) {
    case image::FD_REG:
      if (entry.has_reg()) return use(entry.reg());
      break;
    case image::FD_PIPE:
      if (entry.has_pipe()) return use(entry.pipe());
      break;
    case image::FD_INETSK:
      if (entry.has_isk()) return use(entry.isk());
      break;
    case image::FD_UNIXSK:
      if (entry.has_usk()) return use(entry.usk());
      break;
    case image::FD_EVENTFD:
      if (entry.has_efd()) return use(entry.efd());
      break;
    case image::FD_EVENTPOLL:
      if (entry.has_epfd()) return use(entry.epfd());
      break;
    case image::FD_INOTIFY:
      if (entry.has_ify()) return use(entry.ify());
      break;
    case image::FD_SIGNALFD:
      if (entry.has_sgfd()) return use(entry.sgfd());
      break;
    case image::FD_TIMERFD:
      if (entry.has_tfd()) return use(entry.tfd());
      break;
    case image::FD_MEMFD:
      if (entry.has_memfd()) return use(entry.memfd());
      break;
    case image::FD_TTY:
      if (entry.has_tty()) return use(entry.tty());
      break;
    case image::FD_PIDFD:
      if (entry.has_pidfd()) return use(entry.pidfd());
      break;
    case image::FD_FIFO:
    case image::FD_UND:
    case image::FD_PACKETSK:
    case image::FD_FANOTIFY:
    case image::FD_NETLINKSK:
    case image::FD_NS:
    case image::FD_TUNF:
    case image::FD_EXT:
    case image::FD_BPFMAP: break;
  }
  fail(Errc::image_corrupt, "file {} of type {} has no such content", entry.id(), image::FdType_Name(entry.type()));
}

}  // namespace

std::uint32_t flags_of(const image::FileEntry& entry) {
  return with_member(entry, [](const auto& member) { return static_cast<std::uint32_t>(member.flags()); });
}

const image::FownEntry& fown_of(const image::FileEntry& entry) {
  return *with_member(entry, [](const auto& member) { return &member.fown(); });
}

std::string_view type_name(image::FdType type) {
  switch (type) {
    case image::FD_UND: return "FD_UND";
    case image::FD_REG: return "FD_REG";
    case image::FD_PIPE: return "FD_PIPE";
    case image::FD_FIFO: return "FD_FIFO";
    case image::FD_INETSK: return "FD_INETSK";
    case image::FD_UNIXSK: return "FD_UNIXSK";
    case image::FD_EVENTFD: return "FD_EVENTFD";
    case image::FD_EVENTPOLL: return "FD_EVENTPOLL";
    case image::FD_INOTIFY: return "FD_INOTIFY";
    case image::FD_SIGNALFD: return "FD_SIGNALFD";
    case image::FD_PACKETSK: return "FD_PACKETSK";
    case image::FD_TTY: return "FD_TTY";
    case image::FD_FANOTIFY: return "FD_FANOTIFY";
    case image::FD_NETLINKSK: return "FD_NETLINKSK";
    case image::FD_NS: return "FD_NS";
    case image::FD_TUNF: return "FD_TUNF";
    case image::FD_EXT: return "FD_EXT";
    case image::FD_TIMERFD: return "FD_TIMERFD";
    case image::FD_MEMFD: return "FD_MEMFD";
    case image::FD_BPFMAP: return "FD_BPFMAP";
    case image::FD_PIDFD: return "FD_PIDFD";
  }
  return "unknown";
}

}  // namespace godwit::engine::resources
