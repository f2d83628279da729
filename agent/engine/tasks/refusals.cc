#include "agent/engine/tasks/refusals.h"

#include "agent/engine/numa/policy_text.h"
#include "agent/engine/ptrace/process_tree.h"
#include "common/base/check.h"

#include <array>
#include <cstring>

#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine::tasks {
namespace {

constexpr std::uint32_t kernel_thread_flag = 0x00200000;             // PF_KTHREAD
constexpr std::uint32_t io_worker_flag = 0x00000010;                 // PF_IO_WORKER
constexpr std::uint64_t io_flusher_flags = 0x00080000 | 0x00100000;  // PF_MEMALLOC_NOIO, PF_LOCAL_THROTTLE

// The architecture of a running program: ELF class of its executable. A 64-bit program that jumps to 32-bit code is
// found by its registers at the freeze.
bool is_32_bit(const proc::Reader& proc) {
  UniqueFd exe = proc.open("exe", O_RDONLY);
  std::array<unsigned char, 5> head{};
  return ::pread(exe.get(), head.data(), head.size(), 0) == 5 && head[0] == 0x7f && head[4] == 1;
}

bool shares(const proc::Reader& proc, const char* ns) {
  return proc.link(fmt::format("ns/{}", ns)) == read_link(fmt::format("/proc/self/ns/{}", ns));
}

void add_all(std::vector<Refusal>& to, std::vector<Refusal> more) {
  for (Refusal& r : more) to.push_back(std::move(r));
}

// The first line of a thread's numa_maps has the thread's own policy, unless that mapping has one.
void look_at_numa(const proc::Reader& thread, const std::string& name, Refusals& out) {
  const int fd = ::openat(thread.dir(), "numa_maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;  // a kernel without NUMA, or the thread has ended
  const UniqueFd file(fd);
  char line[256];
  const ssize_t n = ::read(file.get(), line, sizeof line);
  if (n <= 0) return;
  const std::string policy(numa::shown_policy({line, static_cast<std::size_t>(n)}));
  if (policy.empty() || policy == numa::default_policy) return;
  if (numa::parse_policy(policy))
    out.numa_policies.insert(policy);
  else
    out.refusals.push_back({name, fmt::format("a NUMA memory policy of this kind ({}) is not carried", policy),
                            "start it without numactl, set_mempolicy or mbind"});
}

// 5.14+: only threads with the same cookie share a core with it.
void look_at_cookie(pid_t tid, const std::string& name, Refusals& out) {
  constexpr int sched_core = 62, get = 0, one_thread = 0;
  std::uint64_t cookie = 0;  // an error: a kernel, or a machine, without core scheduling
  if (::prctl(sched_core, get, tid, one_thread, &cookie) == 0 && cookie)
    out.refusals.push_back({name, "its core scheduling cookie is not carried", "run it without PR_SCHED_CORE"});
}

void look_at_thread(pid_t pid, pid_t tid, Refusals& out) {
  const proc::Reader thread(pid, tid);
  const proc::Stat stat = thread.stat();
  const std::string name = fmt::format("thread {} ({})", tid, stat.comm);
  add_all(out.refusals, refusals_of_thread(name, stat, thread.status()));
  look_at_numa(thread, name, out);
  look_at_cookie(tid, name, out);
}

void look_at_threads(pid_t pid, const proc::Reader& proc, Refusals& out) {
  for (const pid_t tid : proc.threads()) try {
      look_at_thread(pid, tid, out);
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone || tid == pid) throw;  // a thread may end while we look
    }
}

// A process that a security module confines would be free at the destination, or confined like the engine.
void look_at_label(const proc::Reader& proc, const std::string& name, Refusals& out) {
  const auto label = [](const proc::Reader& of) -> std::string {
    const int fd = ::openat(of.dir(), "attr/current", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return {};
    const UniqueFd file(fd);
    char text[512];
    const ssize_t n = ::read(file.get(), text, sizeof text);  // EINVAL when no module has labels
    return n <= 0 ? std::string() : std::string(text, ::strnlen(text, static_cast<std::size_t>(n)));
  };
  const std::string theirs = label(proc);
  if (theirs != label(proc::Reader(::getpid())))
    out.refusals.push_back({name, fmt::format("its security label ({}) is not carried", theirs),
                            "run it unconfined, in a workload of its own"});
}

}  // namespace

Refusals refusals_of(const proc::Reader& proc, pid_t pid) {
  Refusals out;
  const proc::Stat stat = proc.stat();
  const proc::Status status = proc.status();
  const std::string name = fmt::format("process {} ({})", pid, stat.comm);
  if (stat.flags & kernel_thread_flag) {
    out.refusals.push_back({name, "it is a part of the kernel", ""});
    return out;
  }
  if (stat.state == 'Z' || stat.state == 'X') {
    const bool others = !is_zombie(pid);
    out.refusals.push_back({name, others ? "its first thread has ended before the others" : "it has ended", ""});
    return out;
  }
  if (status.tracer_pid)
    out.refusals.push_back(
        {name, fmt::format("it is traced by process {}", status.tracer_pid), "detach the debugger and try again"});
  if (is_32_bit(proc)) out.refusals.push_back({name, "32-bit programs are not carried", ""});
  if (!shares(proc, "user")) out.refusals.push_back({name, "it is in a user namespace of its own", ""});
  if (proc.link("ns/time") != proc.link("ns/time_for_children"))
    out.refusals.push_back({name, "its children would live in another time namespace", ""});
  for (const char* ns : {"pid", "mnt", "ipc", "net", "uts", "cgroup"})
    if (!shares(proc, ns)) out.namespaces.push_back(ns);
  if (status.core_dumping) out.refusals.push_back({name, "it is dumping core", ""});
  look_at_threads(pid, proc, out);
  look_at_label(proc, name, out);
  return out;
}

std::vector<Refusal> refusals_of_thread(const std::string& name, const proc::Stat& stat, const proc::Status& status) {
  std::vector<Refusal> found;
  if (status.seccomp > SECCOMP_MODE_FILTER)
    found.push_back({name, fmt::format("seccomp mode {} is not carried", status.seccomp), ""});
  if (stat.flags & io_worker_flag)
    found.push_back({name, "it works for an io_uring instance, which is not carried",
                     "configure the program to use epoll instead of io_uring"});
  if (stat.policy == SCHED_DEADLINE)
    found.push_back({name, "deadline scheduling is not carried", "choose another policy"});
  if ((stat.flags & io_flusher_flags) == io_flusher_flags)
    found.push_back({name, "it serves block devices (PR_SET_IO_FLUSHER)", "storage daemons stay with their devices"});
  if (~status.untag_mask)
    found.push_back({name, fmt::format("linear address masking (untag mask {:#x}) is not carried", status.untag_mask),
                     "run it without tagged pointers"});
  return found;
}

void throw_refusals(const std::vector<Refusal>& refusals) {
  if (refusals.empty()) return;
  std::string all;
  for (const Refusal& r : refusals) all += fmt::format("{}{}: {}", all.empty() ? "" : "; ", r.what, r.reason);
  throw Error(Errc::refused, all, refusals.front().hint);
}

std::uint64_t enabled_xfeatures() {
  std::uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

std::string tracker_backend() {
  UniqueFd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)));
  if (!fd) return "none";
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = 1 << 15;  // UFFD_FEATURE_WP_ASYNC, 6.7+
  return ::ioctl(fd.get(), UFFDIO_API, &api) == 0 ? "pagemap_scan" : "none";
}

}  // namespace godwit::engine::tasks
