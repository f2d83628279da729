#include "agent/engine/resources/fifo.h"

#include "agent/engine/resources/path_file.h"
#include "agent/engine/resources/pipe_content.h"

namespace godwit::engine::resources::fifo {

bool matches(const FdView& view) { return S_ISFIFO(view.st.st_mode) && view.link.starts_with('/'); }

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context) {
  if (const auto holder = context.outside.find(view.link); holder != context.outside.end()) {
    return Refusal{view.describe(), fmt::format("the fifo is also open in process {}", holder->second),
                   "end that process before the move"};
  }
  return path_file::refuse_lost_path(view, context);
}

void dump(const FdView& view, image::FileEntry& entry, DumpContext& context) {
  // As in CRIU: the fifo refers to a record of its path, which no descriptor has.
  image::FileEntry path;
  path.set_type(image::FD_REG);
  path.set_id(context.ids.fresh_id());
  *path.mutable_reg() = path_file::describe(view, path.id());

  image::FifoEntry& fifo = *entry.mutable_fifo();
  fifo.set_id(entry.id());
  fifo.set_pipe_id(static_cast<std::uint32_t>(view.st.st_ino));
  fifo.set_regf_id(path.id());
  context.ids.add(std::move(path));
  if (context.ids.first_sight(view.st.st_dev, view.st.st_ino)) {
    const PipeContent content = read_pipe_content(view.fd, fifo.pipe_id());
    context.out.append(image::Kind::fifo_data, 0, content.entry, content.bytes);
  }
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext& context) {
  const image::FifoEntry& fifo = entry.fifo();
  const auto path = context.files.find(fifo.regf_id());
  if (path == context.files.end() || !path->second.has_reg())
    fail(Errc::image_corrupt, "fifo {} has no path", fifo.id());
  const std::string& name = path->second.reg().name();
  const auto content = find_pipe_content(context.images, image::Kind::fifo_data, fifo.pipe_id());
  const bool reader = (path->second.reg().flags() & O_ACCMODE) == O_RDONLY;
  // A reader of an empty fifo is opened as it is: one that never had a writer does not poll as hung up.
  const bool helped = !reader || (content && !content->bytes.empty());
  UniqueFd& helper = context.pipes[fifo.pipe_id()].write;
  if (helped && !helper) {
    // Held open for both until every end is: opening one end for writing fails while nobody reads.
    helper = open_file(name, O_RDWR | O_NONBLOCK);
    const std::string there = read_pipe_content(helper.get(), fifo.pipe_id()).bytes;
    // Where the source's kernel is this one, its bytes are here already.
    if (!there.empty() && !(content && there == content->bytes))
      throw Error(Errc::busy,
                  fmt::format("{} bytes are in the fifo {} that are not the workload's", there.size(), name),
                  "end who has it open here");
    if (content && there.empty()) write_pipe_content(helper.get(), *content);
  }
  return path_file::open(path->second.reg(), name);
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources::fifo
