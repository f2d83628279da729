// A survey as a peer's agent sends it, and what a destination then looks at on this machine.
#include "agent/engine/resources/needed_files.h"
#include "agent/service/preflight.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <vector>

namespace godwit {

void fuzz(std::string_view input) {
  engine::Surveyed survey;
  if (!survey.ParseFromArray(input.data(), static_cast<int>(input.size()))) return;
  std::size_t tids = 0;
  for (const engine::Task& task : survey.tasks()) tids += static_cast<std::size_t>(std::max(1, task.threads_size()));
  require(service::check_pids(survey).size() <= tids);
  service::has_own_namespaces(survey);
  service::check_socket_names(survey, {"/srv/shared"});
  service::check_cpu(survey, {.xfeatures = 7, .cpu_flags = {"fpu", "sse2"}});
  service::check_numa(survey, {.numa_nodes = {0}});
  std::vector<engine::resources::NeededFile> files;
  for (const engine::NeededFile& f : survey.files()) files.push_back(service::needed_file(f));
  engine::resources::check_files(files);
  service::check_ports(survey);  // the last: an address that is none is the end of it
}

}  // namespace godwit
