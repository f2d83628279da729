#include "agent/engine/tasks/ties.h"

#include "common/base/check.h"

#include <algorithm>
#include <iterator>

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine::tasks {
namespace {

bool share(pid_t one, pid_t other, int what) { return ::syscall(SYS_kcmp, one, other, what, 0, 0) == 0; }

struct Shared {
  int what;
  std::string_view name;
};
constexpr Shared between_processes[] = {
    {KCMP_VM, "its memory"}, {KCMP_FILES, "its descriptors"}, {KCMP_FS, "its working directory"}};
constexpr Shared within[] = {{KCMP_FILES, "a descriptor table"}, {KCMP_FS, "a working directory"}};

constexpr std::uint32_t exiting = 0x4;  // PF_EXITING

// Empty: it has no init yet, or the thread is about to end.
std::string namespace_of_children(const proc::Reader& thread) {
  try {
    return thread.link("ns/pid_for_children");
  } catch (const Error& e) {
    if (e.errc() != Errc::not_found) throw;
    return {};
  }
}

void look_at(pid_t pid, pid_t other, std::span<const pid_t> tree, const std::string& name,
             const std::vector<pid_t>& threads, std::vector<Refusal>& out) {
  const proc::Status status = proc::Reader(other).status();
  if (std::ranges::binary_search(threads, status.tracer_pid))
    out.push_back({name, fmt::format("it traces process {} ({})", other, status.name), "let it detach first"});
  for (const Shared& s : between_processes) {
    if (std::ranges::find(tree, other) != tree.end()) continue;  // kinship.h
    // Who has come since the tree was looked at is found at the freeze.
    const bool newborn = std::ranges::find(tree, status.ppid) != tree.end();
    if (share(pid, other, s.what) && !(s.what == KCMP_VM && newborn)) {
      out.push_back(
          {name, fmt::format("process {} ({}) uses {}, too", other, status.name, s.name), "end that process first"});
      return;
    }
  }
}

}  // namespace

std::vector<Refusal> ties_to_others(const proc::Reader& proc, pid_t pid, std::span<const pid_t> tree) {
  std::vector<Refusal> out;
  const std::string name = fmt::format("process {} ({})", pid, proc.comm());
  const std::vector<pid_t> threads = proc.threads();
  for (const pid_t other : proc::all_pids()) {
    if (other == pid || other == ::getpid()) continue;
    try {
      look_at(pid, other, tree, name, threads, out);
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone) throw;
    }
  }
  return out;
}

std::vector<Refusal> ties_of_threads(const proc::Reader& proc, pid_t pid) {
  std::vector<Refusal> out;
  const std::uint32_t personality = proc.personality();
  for (const pid_t tid : proc.threads()) try {
      if (tid == pid) continue;
      const proc::Reader thread(pid, tid);
      const std::string name = fmt::format("thread {} ({})", tid, thread.comm());
      for (const Shared& s : within)
        if (::syscall(SYS_kcmp, pid, tid, s.what, 0, 0) > 0)
          out.push_back({name, fmt::format("it has {} of its own", s.name), ""});
      if (thread.personality() != personality) out.push_back({name, "it has a personality of its own", ""});
      for (const char* ns : {"mnt", "net", "uts", "ipc", "cgroup", "user", "time"})
        if (const std::string path = fmt::format("ns/{}", ns); thread.link(path) != proc.link(path))
          out.push_back({name, fmt::format("it is in another {} namespace than its process", ns), ""});
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone) throw;  // a thread may end while we look
    }
  std::ranges::move(births_of_threads(proc, pid), std::back_inserter(out));
  return out;
}

std::vector<Refusal> births_of_threads(const proc::Reader& proc, pid_t pid) {
  std::vector<Refusal> out;
  const std::string of_process = namespace_of_children(proc);
  for (const pid_t tid : proc.threads()) try {
      if (tid == pid) continue;
      const proc::Reader thread(pid, tid);
      const std::string of_thread = namespace_of_children(thread);
      // In one without an init each is alone: it cannot be entered yet, and who has made it can make no threads.
      if (!of_thread.empty() && of_thread == of_process) continue;
      if (of_thread.empty() && (thread.stat().flags & exiting)) continue;
      out.push_back({fmt::format("thread {} ({})", tid, thread.comm()),
                     "its children would live in another PID namespace than those of its process", ""});
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone) throw;
    }
  return out;
}

}  // namespace godwit::engine::tasks
