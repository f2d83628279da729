#include "agent/engine/commands/refusals.h"

#include "common/base/error.h"
#include "common/base/log.h"

#include <algorithm>

namespace godwit::engine::commands {

namespace {

bool given(const Options& o, std::string_view option) {
  for (const auto& [is, name] :
       {std::pair(o.shell_job, "--shell-job"), std::pair(o.file_locks, "--file-locks"),
        std::pair(o.link_remap, "--link-remap"), std::pair(o.tcp_established, "--tcp-established"),
        std::pair(o.unix_sockets, "--ext-unix-sk")})
    if (option == name) return is;
  return false;
}

}  // namespace

void refuse_by_name(const Surveyed& surveyed, const Options& o) {
  for (const std::string& notice : surveyed.notices()) log::warn("dump.notice", {{"what", notice}});
  if (surveyed.refusals().empty()) return;
  std::string all;
  for (const Refusal& r : surveyed.refusals())
    all += fmt::format("{}{}{}: {}{}", all.empty() ? "" : "; ",
                       r.pid() == o.tree ? "" : fmt::format("process {}: ", r.pid()), r.what(), r.reason(),
                       given(o, r.option()) ? fmt::format(" ({} cannot carry it yet)", r.option()) : "");
  throw Error(Errc::refused, all, surveyed.refusals(0).hint());
}

void refuse_namespaces(Surveyed& surveyed, pid_t pid) {
  const auto is_own = [&](std::string_view name) {
    return std::ranges::find(surveyed.namespaces(), name) != surveyed.namespaces().end();
  };
  for (const std::string& name : surveyed.namespaces()) {
    if (name == "pid" || (name == "mnt" && is_own("pid"))) continue;
    Refusal& r = *surveyed.add_refusals();
    r.set_pid(pid);
    r.set_what(fmt::format("process {}", pid));
    r.set_reason(fmt::format("it is in a {} namespace of its own, which is not carried", name));
    r.set_hint("run the engine in the same namespaces, or the program in the engine's");
  }
}

}  // namespace godwit::engine::commands
