#include "tests/engine/harness.h"

#include "common/base/check.h"
#include "common/base/passed_fds.h"
#include "common/pagewire/frame.h"
#include "common/proc/reader.h"

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef GODWIT_ENGINE
#error "GODWIT_ENGINE names the program under test"
#endif

namespace godwit::engine::test {
namespace {

std::string cgroup_root() {
  for (const proc::Mount& m : proc::parse_mountinfo(read_file("/proc/self/mountinfo")))
    if (m.type == "cgroup2") return m.point;
  fail(Errc::not_found, "no cgroup v2 hierarchy is mounted");
}

void send_packet(int socket, const std::string& bytes, const std::vector<int>& fds) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  PassedFds passed;
  passed.attach(message, fds);
  ::sendmsg(socket, &message, MSG_NOSIGNAL);
}

// In a child: output to the file, input from nowhere, nothing else open.
void redirect(const std::string& output) {
  const int out = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  const int in = ::open("/dev/null", O_RDONLY);
  ::dup2(in, 0);
  ::dup2(out, 1);
  ::dup2(out, 2);
  ::close_range(3, ~0u, 0);
}

void raise_loopback() {
  const UniqueFd socket(check(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "make a socket"));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  check(::ioctl(socket.get(), SIOCSIFFLAGS, &request), "raise the loopback device");
}

// Says how everything ends that it reaps, after one byte when all is there.
[[noreturn]] void be_init(int ends, const std::string& local) {
  try {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (ends != 3) check(::dup2(ends, 3), "keep a pipe");
    ::close_range(4, ~0u, 0);
    check(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make mounts private");
    check(::mount("proc", "/proc", "proc", 0, nullptr), "mount /proc");
    check(::mount("devpts", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666"), "mount /dev/pts");
    if (!local.empty()) check(::mount("tmpfs", local.c_str(), "tmpfs", 0, "mode=777"), "mount {}", local);
    raise_loopback();
    ::signal(SIGCHLD, SIG_DFL);
    write_all(3, "!");
    for (;;) {
      int end[2];
      end[0] = ::waitpid(-1, &end[1], 0);
      if (end[0] < 0)
        ::usleep(2000);
      else
        ::write(3, end, sizeof end);  // full when nobody asks
    }
  } catch (const Error& e) {
    std::fprintf(stderr, "the init of a namespace: %s\n", e.message().c_str());
  }
  ::_exit(1);
}

}  // namespace

TempDir::TempDir() {
  std::string name = "/tmp/godwit-engine-XXXXXX";
  if (!::mkdtemp(name.data())) check(-1, "make a directory");
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

TestCgroup::TestCgroup(const std::string& name)
    : path_(fmt::format("{}/godwit-test-{}-{}", cgroup_root(), ::getpid(), name)) {
  check(::mkdir(path_.c_str(), 0755), "make {}", path_);
}

TestCgroup::~TestCgroup() {
  try {
    write_file(path_ + "/cgroup.kill", "1");
  } catch (const Error&) {
  }
  wait_for([&] { return ::rmdir(path_.c_str()) == 0; }, std::chrono::seconds(5));
}

bool TestCgroup::frozen() const { return read_file(path_ + "/cgroup.events").find("frozen 1") != std::string::npos; }
void TestCgroup::thaw() const { write_file(path_ + "/cgroup.freeze", "0"); }

PidNamespace::PidNamespace(const std::string& local) {
  auto [ends, told] = make_pipe(O_CLOEXEC | O_NONBLOCK);
  int pidfd = -1;
  clone_args arguments{};
  arguments.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  pid_ = static_cast<pid_t>(check(::syscall(SYS_clone3, &arguments, sizeof arguments), "make a PID namespace"));
  if (pid_ == 0) be_init(told.get(), local);
  pidfd_.reset(pidfd);
  ends_ = std::move(ends);
  char ready = 0;
  pollfd started{.fd = ends_.get(), .events = POLLIN, .revents = 0};
  told.reset();
  if (::poll(&started, 1, 10'000) != 1 || ::read(ends_.get(), &ready, 1) != 1)
    fail(Errc::internal, "the init of a namespace does not start");
}

PidNamespace::~PidNamespace() {
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::optional<int> PidNamespace::take_end(pid_t pid) {
  int end[2];
  while (::read(ends_.get(), end, sizeof end) == sizeof end) ended_[end[0]] = end[1];
  const auto at = ended_.find(pid);
  if (at == ended_.end()) return std::nullopt;
  const int status = at->second;
  ended_.erase(at);
  return status;
}

// A process that enters a PID namespace stays outside itself, and so does whoever inherits its children. So its child,
// who is inside, starts the program and ends: the init inherits.
pid_t PidNamespace::run(const std::string& output, const std::function<void()>& body) {
  auto [read_end, write_end] = make_pipe();
  const pid_t between = ::fork();
  if (between == 0) {
    ::setns(pidfd_.get(), CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET);
    if (const pid_t inside = ::fork(); inside != 0) {
      ::waitpid(inside, nullptr, 0);
      ::_exit(0);
    }
    const pid_t child = ::fork();
    if (child == 0) {
      while (::getppid() != 1) ::usleep(200);
      ::setsid();
      redirect(output);
      body();
      ::_exit(0);
    }
    ::write(write_end.get(), &child, sizeof child);
    ::_exit(0);
  }
  write_end.reset();
  pid_t child = -1;
  read_exact(read_end.get(), std::as_writable_bytes(std::span(&child, 1)));
  ::waitpid(between, nullptr, 0);
  return host_pid(child);
}

pid_t PidNamespace::host_pid(pid_t inside) const {
  const std::string name = read_link(fmt::format("/proc/{}/ns/pid", pid_));
  for (const pid_t pid : proc::all_pids()) {
    std::error_code ignored;
    if (std::filesystem::read_symlink(fmt::format("/proc/{}/ns/pid", pid), ignored) == name &&
        proc::Reader(pid).status().ns_pid.back() == inside)
      return pid;
  }
  fail(Errc::not_found, "there is no process {} in the namespace", inside);
}

Ran run_engine(const std::vector<std::string>& arguments, const std::string& fault, pid_t network_of) {
  auto [read_end, write_end] = make_pipe();
  const UniqueFd there(network_of > 0 ? ::open(fmt::format("/proc/{}/ns/net", network_of).c_str(), O_RDONLY) : -1);
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (network_of > 0 && ::setns(there.get(), CLONE_NEWNET) != 0) ::_exit(126);
    ::dup2(write_end.get(), 1);
    ::dup2(write_end.get(), 2);
    ::close_range(3, ~0u, 0);
    if (!fault.empty()) ::setenv("GODWIT_FAULT", fault.c_str(), 1);
    std::vector<char*> words{const_cast<char*>(GODWIT_ENGINE)};
    for (const std::string& a : arguments) words.push_back(const_cast<char*>(a.c_str()));
    words.push_back(nullptr);
    ::execv(GODWIT_ENGINE, words.data());
    ::_exit(127);
  }
  write_end.reset();
  Ran ran;
  char buffer[4096];
  for (ssize_t n; (n = ::read(read_end.get(), buffer, sizeof buffer)) > 0;)
    ran.output.append(buffer, static_cast<std::size_t>(n));
  ::waitpid(pid, &ran.status, 0);
  return ran;
}

JobClient::JobClient(int journal, bool source, const std::string& fault) {
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
  pid_ = check(::fork(), "fork");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (theirs.get() == 3)
      ::fcntl(3, F_SETFD, 0);
    else
      ::dup2(theirs.get(), 3);
    ::close_range(4, ~0u, 0);
    if (!fault.empty()) ::setenv("GODWIT_FAULT", fault.c_str(), 1);
    ::execl(GODWIT_ENGINE, "godwit-engine", "job", "--control-fd", "3", nullptr);
    ::_exit(127);
  }
  socket_ = std::move(ours);
  Command start;
  start.mutable_start()->set_migration("test");
  start.mutable_start()->set_seed(42);
  std::vector<int> fds{journal};
  pagewire::RingFds ring;
  if (source) {
    ring = pagewire::make_ring();
    fds.insert(fds.end(), {ring.memory.get(), ring.data.get(), ring.space.get()});
  }
  const Event answer = ask(start, fds);
  if (!answer.has_done()) fail(Errc::internal, "the engine job does not start: {}", answer.failure().message());
  if (source) ring_.emplace(std::move(ring));
}

JobClient::~JobClient() {
  socket_.reset();
  if (pid_ < 0) return;
  if (!wait_for([&] { return !alive(); }, std::chrono::seconds(10))) kill();
}

void JobClient::post(const Command& command, std::vector<int> fds) {
  send_packet(socket_.get(), command.SerializeAsString(), fds);
}

Event JobClient::ask(Command command, std::vector<int> fds, std::chrono::seconds limit) {
  const std::uint64_t id = next_id_++;
  command.set_id(id);
  post(command, std::move(fds));
  return await(id, [] {}, limit);
}

bool JobClient::receive(Event& event) {
  pollfd ready{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&ready, 1, 1) != 1) return false;
  std::string bytes(1 << 20, '\0');
  const ssize_t n = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
  if (n < 0 && errno == ECONNRESET) return false;  // what it said before it ended is still to be read
  if (n <= 0) throw Error(Errc::peer_lost, "the engine job has ended");
  if (!event.ParseFromArray(bytes.data(), static_cast<int>(n))) fail(Errc::protocol, "an event that cannot be read");
  return true;
}

Event JobClient::await(std::uint64_t id, const std::function<void()>& meanwhile, std::chrono::seconds limit) {
  const auto deadline = Clock::now() + limit;
  for (;;) {
    if (const auto it = early_.find(id); it != early_.end()) return it->second;
    if (Clock::now() > deadline) fail(Errc::timed_out, "the engine job does not answer");
    meanwhile();
    Event event;
    if (!receive(event)) continue;
    if (event.has_absorbed())
      absorbed_ = event.absorbed().sequence();
    else if (event.id() == 0 && event.has_failure())
      throw Error(errc_from_name(event.failure().code()), event.failure().message());
    else
      early_[event.id()] = event;
  }
}

bool JobClient::alive() {
  if (pid_ < 0) return false;
  if (::waitpid(pid_, &status_, WNOHANG) != pid_) return true;
  pid_ = -1;
  return false;
}

int JobClient::wait_end() {
  wait_for([&] { return !alive(); }, std::chrono::seconds(30));
  return status_;
}

void JobClient::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, &status_, 0);
  pid_ = -1;
}

Pump::Pump(JobClient& source, JobClient& destination, const std::string& spool)
    : source_(source), destination_(destination), stream_(open_file(spool + "/stream-1", O_RDWR | O_CREAT, 0600)) {}

void Pump::operator()() {
  std::string manifest;
  std::uint64_t sequence = 0;
  while (const auto record = source_.ring().front()) {
    const pagewire::FrameHeader read = pagewire::parse_header(*record);
    pagewire::FrameHeader header = read;
    header.stream = 1;
    const auto trailer = record->subspan(sizeof header, pagewire::trailer_length(header));
    const auto payload = record->subspan(sizeof header + trailer.size(), header.payload_length);
    pwrite_all(stream_.get(), payload, static_cast<off_t>(length_));
    pagewire::append_manifest(manifest, header, trailer, length_);
    length_ += payload.size();
    sequence = header.sequence;
    source_.ring().release();
    if (manifest.size() > 16 * 1024) break;
  }
  if (manifest.empty()) return;
  Command announce, stored, acknowledged;
  announce.mutable_manifest()->set_entries(manifest);
  destination_.post(announce);
  stored.mutable_stored()->set_stream(1);
  stored.mutable_stored()->set_upto(length_);
  destination_.post(stored);
  acknowledged.mutable_acknowledged()->set_sequence(sequence);
  source_.post(acknowledged);
}

bool wait_for(const std::function<bool()>& condition, std::chrono::milliseconds limit) {
  const auto deadline = Clock::now() + limit;
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

char state_of(pid_t pid) {
  try {
    return proc::Reader(pid).stat().state;
  } catch (const Error&) {
    return 0;
  }
}

bool process_is_there(pid_t pid) {
  const char state = state_of(pid);
  return state && state != 'Z' && state != 'X';
}

std::string contents(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::size_t lines_in(const std::string& path) {
  const std::string text = contents(path);
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace godwit::engine::test
