#include "agent/engine/commands/refusals.h"

#include "common/base/error.h"
#include "common/base/log.h"

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

}  // namespace godwit::engine::commands
