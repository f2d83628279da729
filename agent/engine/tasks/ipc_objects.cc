#include "agent/engine/tasks/ipc_objects.h"

#include "common/base/check.h"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <set>
#include <sstream>

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine::tasks {
namespace {

// This process is in another IPC namespace meanwhile.
class Visit {
 public:
  explicit Visit(int ns) : home_(open_file("/proc/self/ns/ipc", O_RDONLY)) {
    check(::setns(ns, CLONE_NEWIPC), "visit an IPC namespace");
  }
  ~Visit() { ::setns(home_.get(), CLONE_NEWIPC); }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

 private:
  UniqueFd home_;
};

// Who of these processes was the last to use the set, or 0.
pid_t user_of_semaphores(int id, long semaphores, const std::vector<pid_t>& pids) {
  for (int i = 0; i < semaphores; i++)
    if (const pid_t last = ::semctl(id, i, GETPID); last > 0 && std::ranges::find(pids, last) != pids.end())
      return last;
  return 0;
}

pid_t first_among(const std::vector<pid_t>& pids, std::initializer_list<long> users) {
  for (const long user : users)
    if (std::ranges::find(pids, static_cast<pid_t>(user)) != pids.end()) return static_cast<pid_t>(user);
  return 0;
}

std::vector<std::string> message_queues() {
  std::vector<std::string> names;
  // A mount that is attached nowhere shows the queues of the namespace that it is made in.
  const UniqueFd context(::fsopen("mqueue", FSOPEN_CLOEXEC));
  if (!context) return names;  // a kernel without them
  check(::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), "look at message queues");
  UniqueFd mount(check(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0), "look at message queues"));
  UniqueFd root(check(::openat(mount.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open the message queues"));
  DIR* const directory = ::fdopendir(root.release());
  if (!directory) check(-1, "list the message queues");
  while (const dirent* entry = ::readdir(directory))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  ::closedir(directory);
  return names;
}

}  // namespace

std::vector<std::vector<long>> parse_ipc_table(const std::string& text) {
  std::vector<std::vector<long>> rows;
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::vector<long>& row = rows.emplace_back();
    for (long value = 0; words >> value;) row.push_back(value);
    if (row.size() < 7) fail(Errc::internal, "a line of System V IPC objects: {}", line);
  }
  return rows;
}

std::vector<std::vector<long>> ipc_table(const char* name) {
  const std::string path = fmt::format("/proc/sysvipc/{}", name);
  if (::access(path.c_str(), R_OK) != 0) return {};
  Doing doing("reading {}", path);
  return parse_ipc_table(read_file(path));
}

namespace {

void look_in(const std::string& ns, const std::vector<pid_t>& pids, std::vector<Refusal>& out) {
  constexpr std::size_t id = 1;
  const bool own = ns != read_link("/proc/self/ns/ipc");
  const Visit visit(proc::Reader(pids.front()).open("ns/ipc", O_RDONLY).get());
  const auto refuse = [&](std::string_view what, long number, char option, pid_t user) {
    if (!own && user == 0) return;
    out.push_back({fmt::format("{} {}", what, number),
                   own ? "System V IPC objects of its namespace are not carried"
                       : fmt::format("System V IPC is not carried, and process {} has used it", user),
                   fmt::format("remove it (ipcrm -{} {}), if nobody needs it", option, number)});
  };
  for (const auto& row : ipc_table("sem"))  // key semid perms nsems ...
    refuse("sysv semaphores", row[id], 's', own ? 0 : user_of_semaphores(static_cast<int>(row[id]), row[3], pids));
  for (const auto& row : ipc_table("shm"))  // key shmid perms size cpid lpid ...
    refuse("sysv shared memory", row[id], 'm', first_among(pids, {row[4], row[5]}));
  for (const auto& row : ipc_table("msg"))  // key msqid perms cbytes qnum lspid lrpid ...
    refuse("sysv message queue", row[id], 'q', first_among(pids, {row[5], row[6]}));
  if (own)
    for (const std::string& name : message_queues())
      out.push_back({fmt::format("message queue /{}", name), "POSIX message queues (mqueue) are not carried",
                     "remove it (mq_unlink) before the move"});
}

}  // namespace

std::vector<Refusal> refuse_ipc_objects(const std::vector<pid_t>& pids) {
  std::map<std::string, std::vector<pid_t>> namespaces;
  for (const pid_t pid : pids) namespaces[proc::Reader(pid).link("ns/ipc")].push_back(pid);
  std::vector<Refusal> out;
  for (const auto& [ns, members] : namespaces) look_in(ns, members, out);
  return out;
}

std::optional<std::string> awaited_ipc_object(const std::string& text) {
  std::istringstream words(text);
  long number = -1;
  std::uint64_t id = 0;                                           // the first argument of all of them
  if (!(words >> number >> std::hex >> id)) return std::nullopt;  // "running"
  switch (number) {
    case SYS_semop:
    case SYS_semtimedop: return fmt::format("sysv semaphores {}", static_cast<int>(id));
    case SYS_msgsnd:
    case SYS_msgrcv: return fmt::format("sysv message queue {}", static_cast<int>(id));
    default: return std::nullopt;
  }
}

std::vector<std::string> notices_of_ipc(const proc::Reader& proc, pid_t pid) {
  if (proc.link("ns/ipc") != read_link("/proc/self/ns/ipc")) return {};
  std::set<std::string> awaited;
  for (const pid_t tid : proc.threads()) {
    try {
      if (auto object = awaited_ipc_object(proc::Reader(pid, tid).text("syscall"))) awaited.insert(std::move(*object));
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone) throw;  // a thread may end while we look
    }
  }
  std::vector<std::string> notices;
  for (const std::string& object : awaited)
    notices.push_back(
        fmt::format("process {} waits for {} of this host: after a move, for what has this number there", pid, object));
  return notices;
}

}  // namespace godwit::engine::tasks
