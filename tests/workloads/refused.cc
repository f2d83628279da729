// What a process or its threads are or have that cannot be carried. Relatives: refused_relatives.cc, files:
// refused_files.cc.

#include "tests/workloads/refused.h"
#include "tests/workloads/seccomp.h"
#include "tests/workloads/system_v.h"

#include <asm/ldt.h>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <glob.h>
#include <immintrin.h>
#include <linux/keyctl.h>
#include <linux/mempolicy.h>
#include <mqueue.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

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

long deleted_mapping(Workload& w) {
  const std::string name = w.path("short-lived");
  write_file(name, std::string(8192, 'm'));
  const int fd = open(name.c_str(), O_RDWR | O_CLOEXEC);
  void* const at = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  close(fd);
  return at == MAP_FAILED ? -1 : unlink(name.c_str());
}

// In a thread; whoever would be asked has gone.
long seccomp_notification(Workload&) {
  return in_a_thread([] {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const long listener = add_filter(SYS_getpgid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    return listener < 0 ? listener : close(static_cast<int>(listener));
  });
}
long seccomp_computed(Workload&) {
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return add_filter({{BPF_LD | BPF_IMM, 0, 0, SECCOMP_RET_ALLOW}, {BPF_RET | BPF_A, 0, 0, 0}});
}

// A machine without a pool of huge pages lets them be mapped, but not used.
long huge_page(Workload&) {
  void* const at =
      mmap(nullptr, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? -1 : 0;
}

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

int raise_semaphore(int set, short flags) {
  sembuf up{.sem_num = 1, .sem_op = 1, .sem_flg = flags};
  return semop(set, &up, 1);
}
int make_semaphores(Workload& w) {
  const int set = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600);
  w.tell("objects", object("sem", set));
  return set;
}
long semaphores(Workload& w) { return raise_semaphore(make_semaphores(w), 0); }

// The last to use it is somebody else, so that only the process itself can tell.
long undo_value(Workload& w) {
  const int set = make_semaphores(w);
  const int raised = raise_semaphore(set, SEM_UNDO);
  by_another([set] { must(raise_semaphore(set, 0), "semop"); });
  return raised;
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

// The sandbox that it was put into.
long own_network(Workload&) { return unshare(CLONE_NEWNET); }
long own_name(Workload&) { return unshare(CLONE_NEWUTS); }
long own_cgroups(Workload&) { return unshare(CLONE_NEWCGROUP); }
long own_mounts(Workload&) { return unshare(CLONE_NEWNS); }

// Shared memory of somebody who is no relative any more.
long shared_outside(Workload&) {
  void* const at = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  bystander([] {});
  return at == MAP_FAILED ? -1 : 0;
}
long shared_file_outside(int fd) {
  if (fd < 0 || ftruncate(fd, 4096) != 0) return -1;
  void* const at = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  bystander([] {});
  return at == MAP_FAILED ? -1 : 0;
}
long memfd_mapped_outside(Workload&) { return shared_file_outside(memfd_create("both", MFD_CLOEXEC)); }
long shm_outside(Workload&) {
  const std::string name = "/godwit-workload-" + std::to_string(getpid());
  const int fd = shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  shm_unlink(name.c_str());
  return shared_file_outside(fd);
}

long give_policy(int fd, int flags) {
  if (fd >= 0 && ftruncate(fd, 1 << 16) != 0) return -1;
  void* const at = mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (fd >= 0) close(fd);
  return at == MAP_FAILED ? -1 : syscall(SYS_mbind, at, 1 << 16, MPOL_LOCAL, nullptr, 0, 0);
}
// Also where nobody shares the mapping.
long numa_memfd(Workload&) { return give_policy(memfd_create("placed", MFD_CLOEXEC), MAP_PRIVATE); }
// The thread has the same one: which of them numa_maps shows cannot be told.
long numa_segment(Workload&) {
  return syscall(SYS_set_mempolicy, MPOL_LOCAL, nullptr, 0) == 0 ? give_policy(-1, MAP_SHARED | MAP_ANONYMOUS) : -1;
}

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

// Of the old programs' kind; in a child, since this one is not. It waits for ever.
long program_32(Workload& w) {
  constexpr unsigned char image[] = {0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,  // 32 bits
                                     2, 0, 3, 0, 1, 0, 0, 0, 0x54, 0, 0, 0x10,                 // for i386, begins
                                                                                               // at 0x10000054
                                     0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x34, 0, 0x20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1,
                                     0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x10, 0x5d, 0, 0, 0, 0x5d, 0, 0, 0, 5,
                                     0, 0, 0, 0, 0x10, 0, 0, 0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb,
                                     0xf7};  // for (;;) pause();
  const std::string name = w.path("program");
  write_file(name, {reinterpret_cast<const char*>(image), sizeof image});
  chmod(name.c_str(), 0755);
  const long child = relative(0, SIGCHLD, [&] {
    execl(name.c_str(), "program", nullptr);
    _exit(1);
  });
  pause_for(0.1);
  return child > 0 && waitpid(static_cast<pid_t>(child), nullptr, WNOHANG) == 0 ? 0 : -1;
}

// Whose master is held by somebody who is no relative any more.
long controlling_terminal(Workload& w) {
  const int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0 || unlockpt(master) != 0) return -1;
  const std::string name = ptsname(master);
  const pid_t middle = fork();
  if (middle == 0) {
    if (fork() == 0) {
      setsid();
      char byte = 0;
      while (read(master, &byte, 1) > 0 || !w.asked("controlled")) pause_for(0.001);
    }
    _exit(0);
  }
  waitpid(middle, nullptr, 0);
  close(master);
  relative(0, SIGCHLD, [&] {
    setsid();
    const int terminal = open(name.c_str(), O_RDWR | O_CLOEXEC);
    w.tell("controlled", terminal < 0 ? "no" : "yes");
    for (;;) pause();
  });
  while (!w.asked("controlled")) pause_for(0.001);
  return read_file(w.path("controlled")) == "yes" ? 0 : -1;
}

long first_thread_gone(Workload& w) {
  relative(0, SIGCHLD, [&] {
    static const pid_t first = getpid();
    std::thread([&w] {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      while (read_file("/proc/self/stat").find(") Z") == std::string::npos) pause_for(0.001);
      w.tell("gone", std::to_string(first));
      for (;;) pause();
    }).detach();
    syscall(SYS_exit, 0);
  });
  while (!w.asked("gone")) pause_for(0.001);
  return 0;
}

struct Deadline {  // struct sched_attr
  std::uint32_t size = 48, policy = 6;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime = 1'000'000, deadline = 100'000'000, period = 100'000'000;
};
long deadline(Workload&) {
  return in_a_thread([] {
    const Deadline attributes;
    return syscall(SYS_sched_setattr, 0, &attributes, 0);
  });
}

long io_ports(Workload&) { return ioperm(0x80, 1, 1); }

// A call of the 32-bit kind: there is no other.
long thread_area(Workload&) {
  auto* const segment = reinterpret_cast<user_desc*>(map(4096, MAP_32BIT));
  segment->entry_number = ~0u;
  segment->base_addr = 0x1000;
  segment->limit = 0xfffff;
  segment->seg_32bit = 1;
  segment->limit_in_pages = 1;
  segment->useable = 1;
  long result = 243;  // set_thread_area
  asm volatile("int $0x80" : "+a"(result) : "b"(segment) : "memory", "r8", "r9", "r10", "r11");
  return result == 0 ? 0 : -1;
}

// Registers of a device of this machine.
long device_memory(Workload&) {
  glob_t found{};
  const bool any = glob("/sys/bus/pci/devices/*/resource[0-9]", 0, nullptr, &found) == 0;
  void* at = MAP_FAILED;
  for (std::size_t i = 0; any && i < found.gl_pathc && at == MAP_FAILED; i++) {
    const int fd = open(found.gl_pathv[i], O_RDWR | O_CLOEXEC);
    at = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
  }
  globfree(&found);
  return at == MAP_FAILED ? -1 : 0;
}

// In use: a tile has been loaded.
__attribute__((target("amx-tile"))) void load_tile() {
  alignas(64) static unsigned char configuration[64] = {1}, content[1024] = {1};
  configuration[16] = 64;  // bytes in a row of tile 0
  configuration[48] = 16;  // rows
  _tile_loadconfig(configuration);
  _tile_loadd(0, content, 64);
}
long tiles(Workload&) {
  return in_a_thread([]() -> long {
    if (syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18) != 0) return -1;
    load_tile();
    return 0;
  });
}

// Of which nothing is noticed here: no program may be run.
long enter_landlock() {
  const std::uint64_t handled_access_fs = 1;  // LANDLOCK_ACCESS_FS_EXECUTE
  const long rules = syscall(444 /* landlock_create_ruleset */, &handled_access_fs, sizeof handled_access_fs, 0);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const long entered = syscall(446 /* landlock_restrict_self */, rules, 0);
  close(static_cast<int>(rules));
  return entered;
}
long landlock(Workload&) { return enter_landlock(); }
// More than are asked before anything is sent (agent/engine/tasks/hidden.h).
void make_many_threads() {
  for (int i = 0; i < 40; i++) std::thread([] { ::pause(); }).detach();
}
long keyring_of_many_threads(Workload& w) {
  make_many_threads();
  return thread_keyring(w);
}
long thread_landlock(Workload&) {
  return in_a_thread([] { return syscall(SYS_setresuid, 2001, 2001, 2001) == 0 ? enter_landlock() : -1; });
}
long landlock_of_many_threads(Workload& w) {
  make_many_threads();
  return thread_landlock(w);
}

constexpr Kind kinds[] = {{"sysv_shm", sysv_shm},
                          {"memfd_secret", secret_memory},
                          {"deleted_mapping", deleted_mapping},
                          {"seccomp_notification", seccomp_notification},
                          {"seccomp_computed", seccomp_computed},
                          {"hugetlb", huge_page},
                          {"protection_key", protection_key},
                          {"spare_protection_key", spare_protection_key},
                          {"user_namespace", user_namespace},
                          {"time_namespace", time_namespace},
                          {"thread_files", thread_files},
                          {"thread_namespace", thread_namespace},
                          {"thread_personality", thread_personality},
                          {"session_keyring", session_keyring},
                          {"process_keyring", process_keyring},
                          {"thread_keyring", thread_keyring},
                          {"request_keyring", request_keyring},
                          {"semaphores", semaphores},
                          {"undo_value", undo_value},
                          {"own_semaphores", own_semaphores},
                          {"own_messages", own_messages},
                          {"own_segment", own_segment},
                          {"own_mqueue", own_mqueue},
                          {"own_network", own_network},
                          {"own_name", own_name},
                          {"own_cgroups", own_cgroups},
                          {"own_mounts", own_mounts},
                          {"shared_outside", shared_outside},
                          {"memfd_mapped_outside", memfd_mapped_outside},
                          {"shm_outside", shm_outside},
                          {"numa_memfd", numa_memfd},
                          {"numa_segment", numa_segment},
                          {"dispatch", dispatch},
                          {"descriptor_table", descriptor_table},
                          {"program_32", program_32},
                          {"controlling_terminal", controlling_terminal},
                          {"first_thread_gone", first_thread_gone},
                          {"deadline", deadline},
                          {"io_ports", io_ports},
                          {"thread_area", thread_area},
                          {"device_memory", device_memory},
                          {"tiles", tiles},
                          {"landlock", landlock},
                          {"thread_landlock", thread_landlock},
                          {"keyring_of_many_threads", keyring_of_many_threads},
                          {"landlock_of_many_threads", landlock_of_many_threads}};

}  // namespace

int main(int argc, char** argv) { return be_refused(argc, argv, kinds); }
