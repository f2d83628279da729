#include "agent/engine/resources/pipe.h"

#include "agent/engine/resources/fown.h"
#include "agent/engine/resources/pipe_content.h"

#include <poll.h>

namespace godwit::engine::resources::pipe {
namespace {

// A writer polls POLLERR when nobody reads; a reader polls POLLHUP when nobody writes (or nobody ever did).
bool other_end_open(int fd, short gone) {
  pollfd poll{fd, 0, 0};
  check(::poll(&poll, 1, 0), "poll a pipe");
  return (poll.revents & gone) == 0;
}

}  // namespace

bool matches(const FdView& view) { return S_ISFIFO(view.st.st_mode) && view.link.starts_with("pipe:["); }

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context) {
  const std::string hint = "redirect to a file, or end the process at the other end";
  if (const auto holder = context.outside.find(view.link); holder != context.outside.end()) {
    return Refusal{view.describe(), fmt::format("the pipe is also held by process {}", holder->second), hint};
  }
  const unsigned held = context.held[view.link];
  const bool orphan_writer = (held & held_for_reading) == 0 && other_end_open(view.fd, POLLERR);
  const bool orphan_reader = (held & held_for_writing) == 0 && other_end_open(view.fd, POLLHUP);
  if (orphan_writer || orphan_reader)
    return Refusal{view.describe(), "the other end of the pipe is held by another process", hint};
  return std::nullopt;
}

void dump(const FdView& view, image::FileEntry& entry, DumpContext& context) {
  image::PipeEntry& pipe = *entry.mutable_pipe();
  pipe.set_id(entry.id());
  pipe.set_pipe_id(static_cast<std::uint32_t>(view.st.st_ino));
  pipe.set_flags(view.flags());
  *pipe.mutable_fown() = dump_fown(view.fd);
  if (context.ids.first_sight(view.st.st_dev, view.st.st_ino)) {
    const PipeContent content = read_pipe_content(view.fd, pipe.pipe_id());
    context.out.append(image::Kind::pipes_data, 0, content.entry, content.bytes);
  }
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext& context) {
  const image::PipeEntry& pipe = entry.pipe();
  const auto [found, fresh] = context.pipes.try_emplace(pipe.pipe_id());
  PipeEnds& ends = found->second;
  if (fresh) {
    std::tie(ends.read, ends.write) = make_pipe(O_CLOEXEC | O_NONBLOCK);
    if (const auto content = find_pipe_content(context.images, image::Kind::pipes_data, pipe.pipe_id())) {
      write_pipe_content(ends.write.get(), *content);
    }
  }
  const int mode = static_cast<int>(pipe.flags()) & O_ACCMODE;
  const int end = mode == O_WRONLY ? ends.write.get() : ends.read.get();
  bool& taken = mode == O_WRONLY ? ends.write_taken : ends.read_taken;
  if (mode == O_RDWR || taken) {
    // A second open file of the same end: by open(2), as the target must have made it.
    return open_file(fmt::format("/proc/self/fd/{}", end), mode | O_NONBLOCK);
  }
  taken = true;
  return UniqueFd(check(::fcntl(end, F_DUPFD_CLOEXEC, 0), "copy an end of a pipe"));
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources::pipe
