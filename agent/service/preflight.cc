#include "agent/service/preflight.h"

#include "agent/engine/numa/policy.h"
#include "agent/service/held_fifos.h"
#include "common/net/address.h"
#include "common/proc/cpu_features.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <set>

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

namespace godwit::service {
namespace {

using Sentences = std::vector<std::string>;

void append(Sentences& to, Sentences more) {
  to.insert(to.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

std::vector<std::string> shared_paths(const Context& context, const api::Prepare& request) {
  std::vector<std::string> paths = context.options.shared;
  paths.insert(paths.end(), request.options().assume_shared().begin(), request.options().assume_shared().end());
  return paths;
}

bool is_same_file(const engine::BoundName& name) {
  struct stat st{};
  return ::lstat(name.path().c_str(), &st) == 0 && st.st_ino == name.inode() &&
         st.st_ctim.tv_sec * 1'000'000'000 + st.st_ctim.tv_nsec == name.changed_ns();
}

// The log that an agent gives a workload by default is the node's own, like journals are: it goes on in a file of
// this node.
bool is_own_log(const Context& context, const std::string& workload, const std::string& path) {
  return path == context.workloads->log_path(workload);
}

Sentences check_needed_files(const Context& context, const api::Prepare& request, const engine::Surveyed& survey) {
  Sentences wrong;
  std::vector<engine::resources::NeededFile> files;
  const std::vector<std::string> shared = shared_paths(context, request);
  for (const engine::NeededFile& f : survey.files()) {
    if (is_own_log(context, request.workload().name(), f.path())) continue;
    files.push_back(needed_file(f));
    if (f.writable() && S_ISREG(f.mode()) && !is_below(f.path(), shared)) {
      wrong.push_back(
          fmt::format("{} can be written and is not known to be on storage that both nodes share "
                      "(--assume-shared {})",
                      f.path(), f.path()));
    }
  }
  append(wrong, engine::resources::check_files(files));
  return wrong;
}

Sentences check_memory(const Context& context, const api::Prepare& request, const engine::Surveyed& survey) {
  const std::uint64_t needed = needed_memory(context, request, survey), available = memory_available();
  const std::uint64_t promised = promised_to_others(context, key_of(request.id(), Side::destination));
  if (promised < available && needed <= available - promised) return {};
  const std::string others =
      promised > 0 ? fmt::format(", of which {} are promised to others that are on their way", human_bytes(promised))
                   : "";
  return {
      fmt::format("{} of memory are needed, {} are available{}", human_bytes(needed), human_bytes(available), others)};
}

Sentences check_name(const Context& context, const std::string& name) {
  const workload::Saved* there = context.workloads->find(name);
  if (!there || there->info().state() == "exited") return {};
  return {fmt::format("there is a workload '{}' on this node already", name)};
}

std::string holder_of(pid_t pid) {
  try {
    return fmt::format(" ({})", proc::Reader(pid).comm());
  } catch (const Error&) {
    return {};
  }
}

}  // namespace

std::uint64_t needed_memory(const Context& context, const api::Prepare& request, const engine::Surveyed& survey) {
  const std::uint64_t spool =
      request.options().spool_limit() ? request.options().spool_limit() : context.options.spool_limit;
  return survey.resident_bytes() + spool;
}

// A spool that holds something is counted twice, here and as memory in use: it is small.
std::uint64_t promised_to_others(const Context& context, const Key& key) {
  std::uint64_t sum = 0;
  for (const auto& [other, promise] : context.promised) {
    if (other == key) continue;
    const workload::Saved* copy = context.workloads->find(promise.workload);
    const bool is_there = copy && copy->cgroup() == to_string(other);
    const std::uint64_t taken = is_there ? context.workloads->info(promise.workload).resident_bytes() : 0;
    sum += promise.bytes - std::min(promise.bytes, taken);
  }
  return sum;
}

engine::resources::NeededFile needed_file(const engine::NeededFile& f) {
  return {.path = f.path(),
          .size = f.size(),
          .mode = f.mode(),
          .build_id = f.build_id(),
          .writable = f.writable(),
          .mapped = f.mapped(),
          .device = f.device(),
          .inode = f.inode()};
}

bool is_below(const std::string& path, const std::vector<std::string>& prefixes) {
  return std::ranges::any_of(prefixes, [&](const std::string& prefix) {
    if (prefix.empty() || !path.starts_with(prefix)) return false;
    return path.size() == prefix.size() || prefix.back() == '/' || path[prefix.size()] == '/';
  });
}

bool has_own_namespaces(const engine::Surveyed& survey) {
  return std::ranges::find(survey.namespaces(), "pid") != survey.namespaces().end();
}

// What it uses now, and what it may have found: a program asks once which instructions there are, and keeps to that.
Sentences check_cpu(const engine::Surveyed& survey, const NodeFacts& here) {
  Sentences wrong;
  if (const std::uint64_t missing = survey.xfeatures() & ~here.xfeatures)
    wrong.push_back(fmt::format("register state is in use that this CPU does not have: xfeatures {:#x} of {:#x}",
                                missing, survey.xfeatures()));
  const std::string lacking = proc::lacking_features({survey.cpu_flags().begin(), survey.cpu_flags().end()},
                                                     {here.cpu_flags.begin(), here.cpu_flags.end()});
  if (!lacking.empty()) wrong.push_back("a program may have found more on the source's CPU: " + lacking);
  return wrong;
}

Sentences check_numa(const engine::Surveyed& survey, const NodeFacts& here) {
  namespace numa = engine::numa;
  std::set<std::string> wrong;  // a node may be in several policies
  for (const std::string& text : survey.numa_policies()) {
    const std::optional<numa::Policy> policy = numa::parse_policy(text);
    if (!policy) {
      wrong.insert(fmt::format("a NUMA memory policy of this kind ({}) is not known here", text));
    } else if (std::optional<std::string> why = numa::lacking_as_shown(*policy, here.numa_nodes)) {
      wrong.insert(std::move(*why));
    }
  }
  return {wrong.begin(), wrong.end()};
}

Sentences check_pids(const engine::Surveyed& survey) {
  Sentences wrong;
  for (const engine::Task& task : survey.tasks()) {
    std::vector<pid_t> wanted{task.threads().begin(), task.threads().end()};
    if (wanted.empty()) wanted.push_back(task.guest_pid());
    for (const pid_t tid : wanted) {
      if (::kill(tid, 0) == -1 && errno == ESRCH) continue;
      wrong.push_back(fmt::format("PID {} of {} is taken here{}", tid, task.comm(), holder_of(tid)));
    }
  }
  return wrong;
}

// Restoring a socket takes its name. On storage that both nodes share that would be the source's, which may still go
// on.
Sentences check_socket_names(const engine::Surveyed& survey, const std::vector<std::string>& shared) {
  Sentences wrong;
  for (const engine::BoundName& name : survey.bound())
    if (is_below(name.path(), shared) || is_same_file(name))
      wrong.push_back(
          fmt::format("the name of the unix socket {} is on storage that both nodes share; bind it on the "
                      "node's own, below /run say",
                      name.path()));
  return wrong;
}

// The source holds its locks for as long as it may still go on; the copy would have to take them before that.
Sentences check_locks(const engine::Surveyed& survey, const std::vector<std::string>& shared) {
  std::set<std::string> held;
  for (const engine::BoundName& name : survey.locked())
    if (is_below(name.path(), shared) || is_same_file(name)) held.insert(name.path());
  Sentences wrong;
  for (const std::string& path : held)
    wrong.push_back(fmt::format(
        "an exclusive lock or lease of {} is held, which is on storage that both nodes share; release it, or "
        "keep the file on the node's own",
        path));
  return wrong;
}

Sentences check_ports(const engine::Surveyed& survey) {
  Sentences wrong;
  for (const std::string& text : survey.listening()) {
    const auto space = text.find(' ');
    if (space == std::string::npos || text.starts_with("unix ")) continue;
    const bool tcp = text.starts_with("tcp");
    const net::Address address = net::parse_address(text.substr(space + 1));
    addrinfo hints{}, *found = nullptr;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
    hints.ai_socktype = tcp ? SOCK_STREAM : SOCK_DGRAM;
    if (::getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found) != 0) continue;
    UniqueFd fd(::socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, 0));
    const int on = 1;
    if (tcp) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (found->ai_family == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    const int rc = ::bind(fd.get(), found->ai_addr, found->ai_addrlen);
    const int e = errno;
    ::freeaddrinfo(found);
    if (rc == -1) wrong.push_back(fmt::format("{} cannot be listened on here: {}", text, ::strerror(e)));
  }
  return wrong;
}

void check_admission(const Context& context, const Key& key, const std::string& workload) {
  for (const Record& r : context.records.all()) {
    if (r.key == key || r.workload != workload || r.is_final() || r.phase == 1) continue;
    fail(Errc::busy, "the migration {} of '{}' is still {} on this node", r.key.migration, workload, phase_name(r));
  }
}

std::string network_notice(const Context& context, const std::string& why) {
  return fmt::format("node '{}' cannot hold back what the copy sends before it counts: {}", context.options.node, why);
}

bool writes_shared_files(const Context& context, const api::Prepare& request, const engine::Surveyed& survey) {
  return std::ranges::any_of(survey.files(), [&](const engine::NeededFile& f) {
    return f.writable() && S_ISREG(f.mode()) && !is_own_log(context, request.workload().name(), f.path());
  });
}

void make_own_log(const Context& context, const api::Prepare& request, const engine::Surveyed& survey) {
  for (const engine::NeededFile& f : survey.files())
    if (is_own_log(context, request.workload().name(), f.path()))
      open_file(f.path(), O_WRONLY | O_CREAT | O_APPEND, 0644);
}

Sentences preflight(const Context& context, const api::Prepare& request, const engine::Surveyed& survey) {
  Sentences wrong = check_name(context, request.workload().name());
  append(wrong, check_needed_files(context, request, survey));
  if (!has_own_namespaces(survey)) append(wrong, check_pids(survey));
  append(wrong, check_cpu(survey, context.facts));
  append(wrong, check_numa(survey, context.facts));
  append(wrong, check_ports(survey));
  append(wrong, check_socket_names(survey, shared_paths(context, request)));
  append(wrong, check_locks(survey, shared_paths(context, request)));
  append(wrong, check_fifos(survey));
  append(wrong, check_memory(context, request, survey));
  return wrong;
}

}  // namespace godwit::service
