#include "agent/engine/resources/fd_kinds.h"
#include "agent/engine/resources/fd_table.h"
#include "agent/engine/resources/fd_walk.h"
#include "agent/engine/resources/path_file.h"
#include "agent/engine/resources/pidfd.h"

namespace godwit::engine::resources {
namespace {

// Files that must be at the destination under their path. A deleted one is carried, a memfd is memory.
bool is_needed(const FdView& view) {
  return view.link.starts_with('/') && !view.link.starts_with("/memfd:") && !path_file::deleted(view);
}

NeededFile needed(const FdView& view) {
  NeededFile file = describe_file(view.fd, view.link, BuildId::skip);
  file.writable =
      S_ISREG(view.st.st_mode) && (view.info.flags & O_PATH) == 0 && (view.info.flags & O_ACCMODE) != O_RDONLY;
  return file;
}

void survey_place(const proc::Reader& proc, const char* name, FdSurvey& survey) {
  const std::string path = proc.link(name);
  const UniqueFd place = proc.open(name, O_PATH | O_DIRECTORY);
  struct stat st{};
  check(::fstat(place.get(), &st), "stat {} of a task", name);
  if (st.st_nlink == 0) {
    survey.refusals.push_back(
        {fmt::format("{}: {}", name, path), "the directory is deleted", "let the task change to another"});
    return;
  }
  survey.files.push_back(describe_file(place.get(), path, BuildId::skip));
}

}  // namespace

FdSurvey survey_fds(pid_t pid, const Options& options, const TreeFiles& tree) {
  const Doing doing("survey the descriptors of task {}", pid);
  const proc::Reader proc(pid);
  const UniqueFd pidfd(check(pidfd_open(pid), "open task {}", pid));
  const FdWalk walk = walk_fds(proc, pid, pidfd.get());
  SurveyContext context{.options = options,
                        .pid = pid,
                        .tree = tree.tree,
                        .held = tree.held,
                        .outside = tree.outside,
                        .outer_terminals = tree.outer_terminals};

  FdSurvey survey;
  survey.refusals = refusals_of(walk, context);
  survey.notices = std::move(context.notices);
  survey.listening = std::move(context.listening);
  survey.bound = std::move(context.bound);
  survey.locked = std::move(context.locked);
  for (std::size_t i = 0; i < walk.views.size(); ++i) {
    if (walk.kinds[i] != nullptr && walk.kinds[i]->type != image::FD_TTY && is_needed(walk.views[i]))
      survey.files.push_back(needed(walk.views[i]));
  }
  survey_place(proc, "cwd", survey);
  survey_place(proc, "root", survey);
  return survey;
}

FdSurvey survey_fds(pid_t pid, const Options& options) {
  return survey_fds(pid, options, look_at_files(std::span(&pid, 1)));
}

}  // namespace godwit::engine::resources
