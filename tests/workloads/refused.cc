// Checks: a process with something that cannot be carried (the part of its name after "refused_" says what) is refused
// by name and left alone: no EINTR, no signal handler, no change of memory. Natively it just runs.

#include "tests/workloads/blocked_call.h"

#include <arpa/inet.h>
#include <asm/ldt.h>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/mempolicy.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <string_view>
#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

std::atomic<int> handled = 0;

// Each makes the thing; -1 when this machine has none.
struct Kind {
  std::string_view name;
  long (*make)(Workload&);
};

// What relatives share, or are to each other, beyond being relatives. Each ends with its parent.
template <class Body>
void live_on(Body body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  body();
  for (;;) pause();
}

// It shares its parent's memory, and the parent waits, for as long as it runs no other program: in a child of the
// workload, whose own memory is looked at in the end.
long vfork_child(Workload& w) {
  if (fork() == 0)
    live_on([&] {
      if (vfork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        syscall(SYS_close, syscall(SYS_creat, w.path("born").c_str(), 0600));
        for (;;) syscall(SYS_pause);
      }
    });
  while (!w.asked("born")) pause_for(0.001);
  return 0;
}

template <class Body>
long relative(unsigned long flags, int exit_signal, Body body) {
  const long pid = syscall(SYS_clone, flags | static_cast<unsigned long>(exit_signal), nullptr, nullptr, nullptr, 0);
  if (pid == 0) live_on(body);
  return pid;
}

long child_files(Workload&) {
  return relative(CLONE_FILES, SIGCHLD, [] {});
}
long child_directory(Workload&) {
  return relative(CLONE_FS, SIGCHLD, [] {});
}
long child_pid_namespace(Workload&) {
  return relative(CLONE_NEWPID, SIGCHLD, [] {});
}
long child_exit_signal(Workload&) {
  return relative(0, SIGUSR2, [] {});
}
// One child traces another one.
long member_tracer(Workload& w) {
  const long tracee = relative(0, SIGCHLD, [] {});
  relative(0, SIGCHLD, [&] { w.tell("seized", ptrace(PTRACE_SEIZE, tracee, nullptr, nullptr) == 0 ? "yes" : "no"); });
  while (!w.asked("seized")) pause_for(0.001);
  return read_file(w.path("seized")) == "yes" ? 0 : -1;
}

// By a process that is no child, so that being traced is all there is to refuse.
long traced(Workload&) {
  const pid_t target = getpid();
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  const pid_t between = fork();
  if (between == 0) {
    if (fork() == 0) {
      const bool seized = ptrace(PTRACE_SEIZE, target, nullptr, nullptr) == 0;
      static_cast<void>(!write(ends[1], &seized, 1));
      close(ends[0]);
      close(ends[1]);
      // SIGCHLD of the process between stops the target, too: hand on what it gets, and go on tracing.
      for (int status = 0;; pause_for(0.01)) {
        const pid_t stopped = waitpid(target, &status, WNOHANG | __WALL);
        if (stopped < 0 || (stopped == target && !WIFSTOPPED(status))) break;
        if (stopped == target) ptrace(PTRACE_CONT, target, nullptr, status >> 16 ? 0 : WSTOPSIG(status));
      }
      _exit(0);
    }
    _exit(0);
  }
  waitpid(between, nullptr, 0);
  bool seized = false;
  close(ends[1]);
  static_cast<void>(!read(ends[0], &seized, 1));
  close(ends[0]);
  return seized ? 0 : -1;
}

long uring(Workload&) {
  io_uring_params parameters{};
  return syscall(SYS_io_uring_setup, 4, &parameters);
}

long aio(Workload&) {
  static aio_context_t context = 0;
  return syscall(SYS_io_setup, 8, &context);
}

long own_pidfd(Workload&) { return syscall(SYS_pidfd_open, getpid(), 0); }
long user_faults(Workload&) { return syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */); }

long sysv_shm(Workload&) {
  const int id = shmget(IPC_PRIVATE, 65536, IPC_CREAT | 0600);
  void* const at = shmat(id, nullptr, 0);
  shmctl(id, IPC_RMID, nullptr);  // lives as long as it is attached
  return at == reinterpret_cast<void*>(-1) ? -1 : 0;
}

long secret_memory(Workload&) {
  const long fd = syscall(SYS_memfd_secret, O_CLOEXEC);
  if (fd < 0 || ftruncate(static_cast<int>(fd), 4096) != 0) return -1;
  return mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, static_cast<int>(fd), 0) == MAP_FAILED ? -1 : 0;
}

long flock_lock(Workload& w) {
  return flock(open(w.path("locked").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), LOCK_EX);
}

long posix_lock(Workload& w) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  return fcntl(open(w.path("locked").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), F_SETLK, &lock);
}

long lease(Workload& w) {
  write_file(w.path("leased"), "x");
  return fcntl(open(w.path("leased").c_str(), O_RDONLY | O_CLOEXEC), F_SETLEASE, F_RDLCK);
}

long deleted_mapping(Workload& w) {
  const std::string name = w.path("short-lived");
  write_file(name, std::string(8192, 'm'));
  const int fd = open(name.c_str(), O_RDWR | O_CLOEXEC);
  void* const at = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  close(fd);
  return at == MAP_FAILED ? -1 : unlink(name.c_str());
}

// Open, and its name gone, while another name leads to it.
long linked_file(Workload& w) {
  const std::string name = w.path("first-name"), other = w.path("other-name");
  const int fd = open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  return fd < 0 || link(name.c_str(), other.c_str()) != 0 ? -1 : unlink(name.c_str());
}

// One end; somebody who is no relative any more has the other.
long unix_peer(Workload&) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return -1;
  const pid_t middle = fork();
  if (middle == 0) {
    if (fork() == 0) {
      setsid();
      close(ends[0]);
      char byte = 0;
      while (read(ends[1], &byte, 1) > 0) continue;  // it ends with the workload
    }
    _exit(0);
  }
  close(ends[1]);
  return waitpid(middle, nullptr, 0) == middle ? 0 : -1;
}

long terminal(Workload&) {
  const int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  return fd < 0 || grantpt(fd) != 0 ? -1 : unlockpt(fd);
}

long netlink(Workload&) { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0); }
long packet(Workload&) { return socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0); }
long raw(Workload&) { return socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP); }

long established_tcp(Workload&) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof address;
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener, 1) != 0) return -1;
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(client, reinterpret_cast<sockaddr*>(&address), size) != 0) return -1;
  return accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
}

long perf(Workload&) {
  perf_event_attr attributes{};
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.size = sizeof attributes;
  attributes.config = PERF_COUNT_SW_CPU_CLOCK;
  return syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

long bpf_map(Workload&) {
  bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_ARRAY;
  attributes.key_size = attributes.value_size = 4;
  attributes.max_entries = 1;
  return syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes);
}

long fanotify(Workload&) { return fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY); }

long seccomp(Workload&) {
  sock_filter allow_all[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
  const sock_fprog program{1, allow_all};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

long tunnel(Workload&) { return open("/dev/net/tun", O_RDWR | O_CLOEXEC); }

long message_queue(Workload&) {
  const std::string name = "/godwit-workload-" + std::to_string(getpid());
  const mqd_t queue = mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600, nullptr);
  return queue < 0 ? -1 : mq_unlink(name.c_str());
}

// A machine without a pool of huge pages lets them be mapped, but not used.
long huge_page(Workload&) {
  void* const at =
      mmap(nullptr, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? -1 : 0;
}

long huge_memfd(Workload&) { return memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC); }

long user_namespace(Workload&) { return unshare(CLONE_NEWUSER); }
long time_namespace(Workload&) {
  const int before = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
  if (before < 0 || unshare(CLONE_NEWTIME) != 0) return -1;
  const int after = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
  const long entered = setns(after, CLONE_NEWTIME);
  close(before);
  close(after);
  return entered;
}

// A process that is no child and ends with this one.
template <class Body>
void bystander(Body body) {
  const pid_t owner = getpid();
  const pid_t between = fork();
  if (between == 0) {
    if (fork() == 0) {
      body();
      while (kill(owner, 0) == 0) pause_for(0.01);
    }
    _exit(0);
  }
  waitpid(between, nullptr, 0);
}

long tracer(Workload& w) {
  bystander([&] { w.tell("bystander", std::to_string(getpid())); });
  while (!w.asked("bystander")) pause_for(0.001);
  return ptrace(PTRACE_SEIZE, atoi(read_file(w.path("bystander")).c_str()), nullptr, nullptr);
}

long shared_memory(Workload&) {
  static char stack[1 << 16];
  static const pid_t owner = getpid();
  return clone(
      [](void*) {
        while (kill(owner, 0) == 0) pause_for(0.01);
        _exit(0);
        return 0;
      },
      stack + sizeof stack, CLONE_VM | CLONE_PARENT | SIGCHLD, nullptr);
}

// A thread does it, and stays.
template <class Call>
long in_a_thread(Call call) {
  static std::atomic<long> result;
  result = -2;
  std::thread([call] {
    result = call();
    for (;;) pause();
  }).detach();
  while (result == -2) pause_for(0.001);
  return result;
}

long thread_files(Workload&) {
  return in_a_thread([] { return unshare(CLONE_FILES); });
}
long thread_namespace(Workload&) {
  return in_a_thread([] { return unshare(CLONE_NEWUTS); });
}
long thread_personality(Workload&) {
  return in_a_thread([] { return personality(ADDR_NO_RANDOMIZE); });
}

long add_key(int keyring) { return syscall(SYS_add_key, "user", "godwit-workload", "secret", 6, keyring); }
long session_keyring(Workload&) {
  return syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr) < 0 ? -1 : add_key(KEY_SPEC_SESSION_KEYRING);
}
long process_keyring(Workload&) { return add_key(KEY_SPEC_PROCESS_KEYRING); }
long thread_keyring(Workload&) {
  return in_a_thread([] { return add_key(KEY_SPEC_THREAD_KEYRING); });
}
long request_keyring(Workload&) { return syscall(SYS_keyctl, KEYCTL_SET_REQKEY_KEYRING, KEY_REQKEY_DEFL_USER_KEYRING); }

// With an undo value, which nobody else can see. The array would outlive this process.
long semaphores(Workload&) {
  static const int id = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600);
  std::atexit([] { semctl(id, 0, IPC_RMID); });
  sembuf up{.sem_num = 1, .sem_op = 1, .sem_flg = SEM_UNDO};
  return semop(id, &up, 1);
}

// In namespaces that end with the process, objects that it does not use any more.
long own_semaphores(Workload&) { return unshare(CLONE_NEWIPC) < 0 ? -1 : semget(IPC_PRIVATE, 1, IPC_CREAT | 0600); }
long own_messages(Workload&) { return unshare(CLONE_NEWIPC) < 0 ? -1 : msgget(IPC_PRIVATE, IPC_CREAT | 0600); }
long own_segment(Workload&) { return unshare(CLONE_NEWIPC) < 0 ? -1 : shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600); }
long own_mqueue(Workload&) {
  if (unshare(CLONE_NEWIPC) != 0) return -1;
  const mqd_t queue = mq_open("/kept", O_RDWR | O_CREAT | O_EXCL, 0600, nullptr);
  return queue < 0 ? -1 : mq_close(queue);
}

long numa_policy(Workload&) { return syscall(SYS_set_mempolicy, MPOL_LOCAL, nullptr, 0); }
long numa_memory(Workload&) { return syscall(SYS_mbind, map(1 << 16), 1 << 16, MPOL_LOCAL, nullptr, 0, 0); }

// All of the address space may make system calls as before.
long dispatch(Workload&) {
  return prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 4096, (1ul << 47) - 4096, nullptr);
}

long descriptor_table(Workload&) {
  user_desc segment{};
  segment.limit = 0xfffff;
  segment.seg_32bit = 1;
  segment.limit_in_pages = 1;
  return syscall(SYS_modify_ldt, 1, &segment, sizeof segment);
}

long protection_key(Workload&) {
  const int key = pkey_alloc(0, PKEY_DISABLE_WRITE);
  return key < 0 ? -1 : pkey_mprotect(map(4096), 4096, PROT_READ | PROT_WRITE, key);
}

long spare_protection_key(Workload&) { return pkey_alloc(0, PKEY_DISABLE_WRITE); }

constexpr Kind kinds[] = {{"vfork_child", vfork_child},
                          {"child_files", child_files},
                          {"child_directory", child_directory},
                          {"child_pid_namespace", child_pid_namespace},
                          {"child_exit_signal", child_exit_signal},
                          {"member_tracer", member_tracer},
                          {"traced", traced},
                          {"io_uring", uring},
                          {"aio", aio},
                          {"pidfd", own_pidfd},
                          {"userfaultfd", user_faults},
                          {"sysv_shm", sysv_shm},
                          {"memfd_secret", secret_memory},
                          {"flock", flock_lock},
                          {"flock_option", flock_lock},
                          {"posix_lock", posix_lock},
                          {"lease", lease},
                          {"deleted_mapping", deleted_mapping},
                          {"linked_file", linked_file},
                          {"unix_peer", unix_peer},
                          {"terminal", terminal},
                          {"netlink", netlink},
                          {"packet", packet},
                          {"raw_socket", raw},
                          {"established_tcp", established_tcp},
                          {"established_option", established_tcp},
                          {"perf", perf},
                          {"bpf", bpf_map},
                          {"fanotify", fanotify},
                          {"seccomp", seccomp},
                          {"tun", tunnel},
                          {"mqueue", message_queue},
                          {"hugetlb", huge_page},
                          {"protection_key", protection_key},
                          {"spare_protection_key", spare_protection_key},
                          {"hugetlb_memfd", huge_memfd},
                          {"user_namespace", user_namespace},
                          {"time_namespace", time_namespace},
                          {"tracer", tracer},
                          {"shared_memory", shared_memory},
                          {"thread_files", thread_files},
                          {"thread_namespace", thread_namespace},
                          {"thread_personality", thread_personality},
                          {"session_keyring", session_keyring},
                          {"process_keyring", process_keyring},
                          {"thread_keyring", thread_keyring},
                          {"request_keyring", request_keyring},
                          {"semaphores", semaphores},
                          {"own_semaphores", own_semaphores},
                          {"own_messages", own_messages},
                          {"own_segment", own_segment},
                          {"own_mqueue", own_mqueue},
                          {"numa_policy", numa_policy},
                          {"numa_memory", numa_memory},
                          {"dispatch", dispatch},
                          {"descriptor_table", descriptor_table}};

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const char* const full_name = getenv("WORKLOAD");
  std::string_view name = full_name == nullptr ? "" : full_name;
  name.remove_prefix(name.starts_with("refused_") ? 8 : 0);
  struct sigaction action{};
  action.sa_handler = [](int) { ++handled; };
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGCONT, SIGTRAP, SIGUSR1}) must(sigaction(signal, &action, nullptr), "sigaction");
  char* const memory = map(1 << 20);
  fill(memory, 1 << 20, 1);

  bool known = false;
  for (const Kind& kind : kinds) {
    if (kind.name != name) continue;
    known = true;
    if (kind.make(w) == -1) w.skip(strerror(errno));
  }
  if (!known) give_up("the name of the workload");
  const int epoll = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  epoll_event event;
  BlockedCall waiting("epoll_wait", [&] { return epoll_wait(epoll, &event, 1, 800); });
  waiting.settle();

  w.ready();
  w.expect_interrupts();  // so that a handler that ran is reported as that
  w.wait_for_verify();
  if (waiting.comes_back(w, 0)) waiting.took(w, 0.8);
  w.check(handled == 0, "a signal handler ran %d times", handled.load());
  w.check(holds(memory, 1 << 20, 1), "the memory changed");
  return w.finish();
}
