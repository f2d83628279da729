#include "agent/engine/resources/fd_kinds.h"
#include "agent/engine/resources/fd_table.h"
#include "agent/engine/resources/fd_walk.h"
#include "agent/engine/resources/file_locks.h"
#include "agent/engine/resources/terminal.h"
#include "common/image/fs.pb.h"

namespace godwit::engine::resources {
namespace {

[[noreturn]] void throw_refusals(const std::vector<Refusal>& refusals) {
  std::string all;
  for (const Refusal& refusal : refusals) {
    all += fmt::format("{}{}: {}", all.empty() ? "" : "; ", refusal.what, refusal.reason);
  }
  throw Error(Errc::refused, all, refusals.front().hint);
}

void dump_table(const StoppedTask& task, const FdWalk& walk, DumpContext& context) {
  const Doing doing("dump the descriptors of task {}", task.pid);
  for (std::size_t i = 0; i < walk.views.size(); ++i) {
    const FdView& view = walk.views[i];
    const FdKind* kind = walk.kinds[i];
    const Doing now("fd {}", view.number);
    const FileIds::Slot slot = context.ids.for_descriptor(task.pid, view.number, view.link);
    if (slot.fresh) {
      image::FileEntry entry;
      entry.set_type(kind->type);
      entry.set_id(slot.id);
      kind->dump(view, entry, context);
      context.ids.add(std::move(entry));
    }
    image::FdinfoEntry descriptor;
    descriptor.set_id(slot.id);
    descriptor.set_flags(view.info.flags & O_CLOEXEC ? FD_CLOEXEC : 0);
    descriptor.set_type(kind->type);
    descriptor.set_fd(static_cast<std::uint32_t>(view.number));
    context.out.append(image::Kind::fdinfo, task.files_id, descriptor);
  }
}

}  // namespace

std::vector<std::string> dump_fds(std::span<const StoppedTask> tasks, FileIds& ids, image::ImageSet& out,
                                  const Options& options) {
  std::vector<FdWalk> walks;
  std::vector<pid_t> tree;
  std::map<std::string, unsigned> held;
  for (const StoppedTask& task : tasks) {
    tree.push_back(task.pid);
    walks.push_back(walk_fds(proc::Reader(task.pid), task.pid, task.pidfd));
    add_held(walks.back(), held);
  }
  const std::set<unsigned> outer_terminals = terminal::outer_of(tree, held);
  std::vector<Refusal> refusals;
  std::vector<std::string> notices;
  for (std::size_t i = 0; i < walks.size(); ++i) {
    SurveyContext survey{.options = options,
                         .pid = tasks[i].pid,
                         .tree = tree,
                         .held = held,
                         .outer_terminals = outer_terminals,
                         .frozen = true};
    for (Refusal& refusal : refusals_of(walks[i], survey)) refusals.push_back(std::move(refusal));
    for (std::string& notice : survey.notices) notices.push_back(std::move(notice));
  }
  if (!refusals.empty()) throw_refusals(refusals);

  // Nothing below refuses: what follows describes.
  TerminalsMet terminals;
  std::set<std::uint32_t> described;
  for (std::size_t i = 0; i < walks.size(); ++i) {
    if (!described.insert(tasks[i].files_id).second) continue;
    DumpContext context{.options = options,
                        .ids = ids,
                        .out = out,
                        .table = walks[i].views,
                        .terminals = terminals,
                        .level = tasks[i].level};
    dump_table(tasks[i], walks[i], context);
    for (std::string& notice : context.notices) notices.push_back(std::move(notice));
  }
  terminal::dump_terminals(terminals, tree, out);
  file_locks::dump(tasks, walks, ids, out);
  return notices;
}

void dump_fs(const StoppedTask& task, std::uint32_t umask, FileIds& ids, image::ImageSet& out) {
  const Doing doing("dump the directories of task {}", task.pid);
  const proc::Reader proc(task.pid);
  const auto place = [&](const char* name) {
    const UniqueFd fd = proc.open(name, O_PATH | O_DIRECTORY);
    struct stat st{};
    check(::fstat(fd.get(), &st), "stat {}", name);
    if (st.st_nlink == 0) fail(Errc::refused, "{} is deleted: {}", name, proc.link(name));
    return ids.file_for_mapping(proc.link(name), st, O_PATH | O_DIRECTORY);
  };
  image::FsEntry entry;
  entry.set_cwd_id(place("cwd"));
  entry.set_root_id(place("root"));
  entry.set_umask(umask);
  out.put(image::Kind::fs, static_cast<std::uint64_t>(task.guest_pid), entry);
}

}  // namespace godwit::engine::resources
