#include "agent/engine/restore/helper.h"

#include "agent/engine/restore/fork_high.h"
#include "agent/engine/restore/helper_process.h"
#include "agent/engine/restore/helper_words.h"
#include "agent/engine/restore/message.h"
#include "agent/engine/restore/pid_holder.h"
#include "common/base/check.h"
#include "common/base/log.h"
#include "common/image/magic.h"

#include <algorithm>
#include <array>
#include <csignal>

#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

constexpr int patience_ms = 60'000;  // descriptors of a large task, not memory

// `member` is in the PID namespace that is meant.
[[noreturn]] void refuse_taken(pid_t pid, pid_t member) {
  throw Error(Errc::already_exists, fmt::format("PID {} is taken by {}", pid, pid_holder(pid, member)),
              "restore in a PID namespace of its own, or end the process that has it");
}

// What is not of tasks and their memory: a thread's state alone has 12 KB.
image::ImageSet of_descriptors(const image::ImageSet& images) {
  using enum image::Kind;
  constexpr std::array others{core, ids, mm, pagemap, pagemap_shmem};
  image::ImageSet some;
  for (const auto& [name, bytes] : images.files()) {
    const auto file = image::parse_file_name(name);
    if (!file || std::ranges::find(others, file->kind) == others.end()) some.put_file(name, bytes);
  }
  return some;
}

}  // namespace

Helper::Helper(int init, int cgroup, const std::vector<pid_t>& avoid) {
  try {
    start(init, cgroup, avoid);
  } catch (...) {
    end();
    throw;
  }
}

void Helper::start(int init, int cgroup, const std::vector<pid_t>& avoid) {
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
  socket_ = std::move(ours);
  if (init >= 0) init_ = UniqueFd(check(::fcntl(init, F_DUPFD_CLOEXEC, 0), "keep the init of the namespaces"));
  const pid_t child = fork_high(avoid, 0, cgroup);
  if (child == 0) run_helper(std::move(theirs), init, avoid);  // does not return
  theirs.reset();
  helper_ = child;
  if (init >= 0) {  // the child has only entered the namespaces; the helper is its successor
    const std::string text = answer();
    ::waitpid(child, nullptr, 0);
    helper_ = helper::parse_number(text);
    send_message(socket_.get(), "G");
  }
  pidfd_.reset(static_cast<int>(check(::syscall(SYS_pidfd_open, helper_, 0), "open the helper of the restore")));
  guest_pid_ = helper::parse_number(answer());
}

UniqueFd Helper::spawn(const SpawnRequest& request) {
  if (request.sibling) return spawn_sibling(request);
  UniqueFd skeleton;
  const std::string text = ask(helper::Spawn{request.pid, request.scratch, request.own_session}, -1, &skeleton);
  if (text == "taken") refuse_taken(request.pid, init_ ? pid_of_pidfd(init_.get()) : ::getpid());
  if (!skeleton) fail(Errc::internal, "the helper sent no skeleton");
  return skeleton;
}

// Only we can make a child of our parent (CLONE_PARENT).
UniqueFd Helper::spawn_sibling(const SpawnRequest& request) {
  int pidfd = -1;
  pid_t wanted = request.pid;
  clone_args arguments{};
  arguments.flags = CLONE_PARENT | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  arguments.set_tid = reinterpret_cast<std::uint64_t>(&wanted);
  arguments.set_tid_size = 1;
  const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child == 0) run_sibling(request.scratch, request.own_session);
  if (child < 0 && errno == EEXIST) refuse_taken(request.pid, ::getpid());
  check(child, "make a child of our parent");
  return UniqueFd(pidfd);
}

void Helper::reap(pid_t guest_pid) { ask(helper::Reap{guest_pid}); }

RestoredSegments::Made Helper::make_segment(const SegmentSpec& spec) {
  RestoredSegments::Made made{.number = helper::parse_number(ask(helper::MakeSegment{spec})), .ours = {}};
  made.ours.reset(
      static_cast<int>(check(::syscall(SYS_pidfd_getfd, pidfd_.get(), made.number, 0), "take over shared memory")));
  return made;
}

void Helper::make_terminal(int terminal) { ask(helper::MakeTerminal{terminal}); }

void Helper::replace_terminal(int terminal, int fd) { ask(helper::ReplaceTerminal{terminal}, fd); }

void Helper::adopt(std::uint32_t id, pid_t pid, int number) { ask(helper::Adopt{id, pid, number}); }

int Helper::time_namespace(std::uint64_t monotonic, std::uint64_t boottime) {
  return helper::parse_number(ask(helper::MakeTimeNamespace{monotonic, boottime}));
}

void Helper::open_files(const image::ImageSet& images, const std::map<std::uint32_t, int>& segments) {
  // In a memfd: a task with many sockets has megabytes of them.
  UniqueFd memory(check(::memfd_create("godwit-images", MFD_CLOEXEC), "create a memfd"));
  write_all(memory.get(), helper::packed(of_descriptors(images)));
  ask(helper::OpenFiles{segments}, memory.get());
}

void Helper::place(std::uint32_t files_id, pid_t pid) { ask(helper::Place{files_id, pid}); }

void Helper::end() {
  if (helper_ <= 0) return;
  ::kill(helper_, SIGKILL);
  ::waitpid(helper_, nullptr, __WALL);
  helper_ = 0;
}

Helper::~Helper() { end(); }

std::string Helper::answer(UniqueFd* fd) {
  pollfd ready{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&ready, 1, patience_ms) != 1) fail(Errc::timed_out, "the helper of the restore does not answer");
  Message message = receive_message(socket_.get());
  if (message.text.empty()) fail(Errc::internal, "the helper of the restore ended");
  if (fd) *fd = std::move(message.fd);
  return helper::parse_answer(message.text);
}

std::string Helper::ask(const helper::Request& request, int fd, UniqueFd* answered) {
  send_message(socket_.get(), helper::words_of(request), fd);
  return answer(answered);
}

}  // namespace godwit::engine
