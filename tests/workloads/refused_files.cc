// What a process has open, or has left mapped, that cannot be carried.

#include "tests/workloads/refused.h"

#include <arpa/inet.h>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

long uring(Workload&) {
  io_uring_params parameters{};
  return syscall(SYS_io_uring_setup, 4, &parameters);
}

// A ring that the thread has registered needs no descriptor; one that polls has a thread of the kernel's, too.
long ring_without_descriptor(unsigned flags) {
  io_uring_params parameters{};
  parameters.flags = flags;
  const long ring = syscall(SYS_io_uring_setup, 4, &parameters);
  io_uring_rsrc_update update{};
  update.offset = ~0u;
  update.data = static_cast<__u64>(ring);
  if (ring < 0 || syscall(SYS_io_uring_register, ring, IORING_REGISTER_RING_FDS, &update, 1) != 1) return -1;
  return close(static_cast<int>(ring));
}

long registered_ring(Workload&) { return ring_without_descriptor(0); }
long polling_ring(Workload&) { return ring_without_descriptor(IORING_SETUP_SQPOLL); }

// Nothing ever comes through the pipe.
long aio(Workload&) {
  static aio_context_t context = 0;
  static iocb request{};
  static int ends[2];
  if (syscall(SYS_io_setup, 8, &context) != 0 || pipe2(ends, O_CLOEXEC) != 0) return -1;
  request.aio_lio_opcode = IOCB_CMD_POLL;
  request.aio_fildes = static_cast<std::uint32_t>(ends[0]);
  request.aio_buf = POLLIN;
  iocb* const list = &request;
  return syscall(SYS_io_submit, context, 1, &list);
}

long aio_inherited(Workload&) {
  static aio_context_t context = 0;
  if (syscall(SYS_io_setup, 8, &context) != 0) return -1;
  return relative(0, SIGCHLD, [] {});
}

long stranger(Workload&) { return syscall(SYS_pidfd_open, getppid(), 0); }
long thread_pidfd(Workload&) { return syscall(SYS_pidfd_open, getppid(), O_EXCL /* PIDFD_THREAD */); }

long user_faults(Workload&) { return syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */); }

long flock_lock(Workload& w) {
  return flock(open(w.path("locked").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), LOCK_EX);
}

// The other process has the same open file.
long shared_flock(Workload& w) {
  const long result = flock_lock(w);
  bystander([] {});
  return result;
}

long device_flock(Workload&) { return flock(open("/dev/zero", O_RDONLY | O_CLOEXEC), LOCK_SH); }

long posix_lock(Workload& w) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  return fcntl(open(w.path("locked").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), F_SETLK, &lock);
}

long description_lock(Workload& w) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  return fcntl(open(w.path("locked").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), F_OFD_SETLK, &lock);
}

long lease(Workload& w) {
  write_file(w.path("leased"), "x");
  return fcntl(open(w.path("leased").c_str(), O_RDONLY | O_CLOEXEC), F_SETLEASE, F_RDLCK);
}

int leased_for_writing(Workload& w) {
  const int fd = open(w.path("leased").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  return ftruncate(fd, 4096) != 0 || fcntl(fd, F_SETLEASE, F_WRLCK) != 0 ? -1 : fd;
}

long deleted_lease(Workload& w) { return leased_for_writing(w) < 0 ? -1 : unlink(w.path("leased").c_str()); }

// Looking at the file would break the lease.
long mapped_lease(Workload& w) {
  const int fd = leased_for_writing(w);
  return fd < 0 || mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0;
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

// A slave; somebody who is no relative any more has the master.
long terminal(Workload&) {
  const int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0 || unlockpt(master) != 0) return -1;
  const int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
  const pid_t middle = fork();
  if (middle == 0) {
    if (fork() == 0) {
      setsid();
      close(slave);
      char byte = 0;
      while (read(master, &byte, 1) > 0) continue;  // it ends with the workload
    }
    _exit(0);
  }
  close(master);
  return slave < 0 ? -1 : waitpid(middle, nullptr, 0) == middle ? 0 : -1;
}

long several_terminals(Workload& w) { return terminal(w) < 0 ? -1 : terminal(w); }

long hung_terminal(Workload&) {
  const int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0 || unlockpt(master) != 0) return -1;
  const int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
  return close(master) != 0 ? -1 : slave;
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

long tunnel(Workload&) { return open("/dev/net/tun", O_RDWR | O_CLOEXEC); }

long message_queue(Workload&) {
  const std::string name = "/godwit-workload-" + std::to_string(getpid());
  const mqd_t queue = mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600, nullptr);
  return queue < 0 ? -1 : mq_unlink(name.c_str());
}

long huge_memfd(Workload&) { return memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC); }
long directory_notification(Workload& w) {
  const std::string name = w.path("watched");
  mkdir(name.c_str(), 0755);
  return fcntl(open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), F_NOTIFY, DN_CREATE | DN_MULTISHOT);
}

// The name has gone, the file has another one.
long renamed_file(Workload& w) {
  const std::string name = w.path("before"), other = w.path("after");
  write_file(name, "x");
  if (open(name.c_str(), O_RDONLY | O_CLOEXEC) < 0 || link(name.c_str(), other.c_str()) != 0) return -1;
  return unlink(name.c_str());
}

// Another file is mounted at its name.
long covered_file(Workload& w) {
  const std::string name = w.path("below"), other = w.path("above");
  write_file(name, "x");
  write_file(other, "y");
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return -1;
  if (open(name.c_str(), O_RDONLY | O_CLOEXEC) < 0) return -1;
  return mount(other.c_str(), name.c_str(), nullptr, MS_BIND, nullptr);
}

long deleted_directory(Workload& w) {
  const std::string name = w.path("gone");
  return mkdir(name.c_str(), 0755) != 0 || chdir(name.c_str()) != 0 ? -1 : rmdir(name.c_str());
}

long held_outside(int fd) {
  bystander([] {});
  return fd < 0 ? -1 : 0;
}
long memfd_outside(Workload&) { return held_outside(memfd_create("both", MFD_CLOEXEC)); }
long eventfd_outside(Workload&) { return held_outside(eventfd(0, EFD_CLOEXEC)); }

// Of somebody who has that PID only here.
long stranger_status(Workload& w) {
  bystander([&] { w.tell("bystander", std::to_string(getpid())); });
  while (!w.asked("bystander")) pause_for(0.001);
  return open(("/proc/" + read_file(w.path("bystander")) + "/status").c_str(), O_RDONLY | O_CLOEXEC);
}
long pressure(Workload&) { return open("/proc/pressure/memory", O_RDWR | O_CLOEXEC); }

// Its signals go to somebody who has another name inside.
long inner_owner(Workload&) {
  int ends[2];
  const long init = relative(CLONE_NEWPID, SIGCHLD, [] {});
  if (init < 0 || pipe2(ends, O_CLOEXEC) != 0) return -1;
  return fcntl(ends[0], F_SETOWN, static_cast<int>(init));
}

long pipe_outside(Workload&) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  bystander([] {});
  return close(ends[1]);
}

long network_namespace(Workload&) { return open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC); }
long uts_namespace(Workload&) { return open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC); }

long virtual_machine(Workload&) {
  const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  const int machine = ioctl(kvm, _IO(0xAE, 0x01) /* KVM_CREATE_VM */, 0);
  close(kvm);
  return machine;
}

long landlock_rules(Workload&) {
  const std::uint64_t handled_access_fs = 1;
  return syscall(444 /* landlock_create_ruleset */, &handled_access_fs, sizeof handled_access_fs, 0);
}

long seccomp_supervisor(Workload&) {
  sock_filter allow_all[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
  const sock_fprog program{1, allow_all};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

long vsock(Workload&) { return socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0); }
long crypto(Workload&) { return socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0); }
long xdp(Workload&) { return socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0); }

// The mapping stays when the socket is closed.
long packet_ring(Workload&) {
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  tpacket_req ring{};
  ring.tp_block_size = 4096;
  ring.tp_block_nr = 1;
  ring.tp_frame_size = 2048;
  ring.tp_frame_nr = 2;
  if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) != 0) return -1;
  return mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : close(fd);
}

template <class Value>
long with_option(int domain, int type, int level, int name, const Value& value) {
  return setsockopt(socket(domain, type | SOCK_CLOEXEC, 0), level, name, &value, sizeof value);
}

long udp_cork(Workload&) { return with_option(AF_INET, SOCK_DGRAM, IPPROTO_UDP, UDP_CORK, 1); }
long packet_filter(Workload&) {
  sock_filter allow_all[] = {{BPF_RET | BPF_K, 0, 0, 0xffff}};
  return with_option(AF_INET, SOCK_DGRAM, SOL_SOCKET, SO_ATTACH_FILTER, sock_fprog{1, allow_all});
}
long multicast_interface(Workload&) {
  return with_option(AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_MULTICAST_IF, in_addr{htonl(INADDR_LOOPBACK)});
}
long unicast_interface(Workload&) {
  return with_option(AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_UNICAST_IF, htonl(if_nametoindex("lo")));
}
long extension_header(Workload&) {
  constexpr unsigned char padding[] = {0, 0, 1, 4, 0, 0, 0, 0};
  return with_option(AF_INET6, SOCK_DGRAM, IPPROTO_IPV6, IPV6_HOPOPTS, padding);
}

long signed_segments(Workload&) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in here{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  tcp_md5sig key{};
  memcpy(&key.tcpm_addr, &here, sizeof here);
  key.tcpm_keylen = 6;
  memcpy(key.tcpm_key, "secret", 6);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0 || listen(listener, 1) != 0) return -1;
  return setsockopt(listener, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof key);
}

constexpr Kind kinds[] = {{"io_uring", uring},
                          {"aio", aio},
                          {"aio_inherited", aio_inherited},
                          {"pidfd", stranger},
                          {"thread_pidfd", thread_pidfd},
                          {"userfaultfd", user_faults},
                          {"flock", flock_lock},
                          {"shared_flock", shared_flock},
                          {"device_flock", device_flock},
                          {"deleted_lease", deleted_lease},
                          {"mapped_lease", mapped_lease},
                          {"linked_file", linked_file},
                          {"unix_peer", unix_peer},
                          {"posix_lock", posix_lock},
                          {"lease", lease},
                          {"terminal", terminal},
                          {"hung_terminal", hung_terminal},
                          {"several_terminals", several_terminals},
                          {"netlink", netlink},
                          {"packet", packet},
                          {"raw_socket", raw},
                          {"established_tcp", established_tcp},
                          {"established_option", established_tcp},
                          {"perf", perf},
                          {"bpf", bpf_map},
                          {"fanotify", fanotify},
                          {"tun", tunnel},
                          {"mqueue", message_queue},
                          {"hugetlb_memfd", huge_memfd},
                          {"registered_ring", registered_ring},
                          {"polling_ring", polling_ring},
                          {"description_lock", description_lock},
                          {"directory_notification", directory_notification},
                          {"renamed_file", renamed_file},
                          {"covered_file", covered_file},
                          {"deleted_directory", deleted_directory},
                          {"memfd_outside", memfd_outside},
                          {"eventfd_outside", eventfd_outside},
                          {"stranger_status", stranger_status},
                          {"pressure", pressure},
                          {"inner_owner", inner_owner},
                          {"pipe_outside", pipe_outside},
                          {"network_namespace", network_namespace},
                          {"uts_namespace", uts_namespace},
                          {"virtual_machine", virtual_machine},
                          {"landlock_rules", landlock_rules},
                          {"seccomp_supervisor", seccomp_supervisor},
                          {"vsock", vsock},
                          {"crypto", crypto},
                          {"xdp", xdp},
                          {"packet_ring", packet_ring},
                          {"udp_cork", udp_cork},
                          {"packet_filter", packet_filter},
                          {"multicast_interface", multicast_interface},
                          {"unicast_interface", unicast_interface},
                          {"extension_header", extension_header},
                          {"signed_segments", signed_segments}};

}  // namespace

int main(int argc, char** argv) { return be_refused(argc, argv, kinds); }
