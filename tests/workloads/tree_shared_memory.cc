// Checks: processes that use one memory (CLONE_VM) without being threads: what one writes or maps the others see, while
// descriptors and signal handlers are shared only by those who shared them; that one of them leads a session, with a
// thread, a child that uses the same memory and one that has ended; that the end of one clears its TID for the others;
// that such processes come and go until the move, and whose maker ends and leaves them its memory; that none of the
// memory that each of them lends to the engine is left in what all use; and that the clocks go on for all of them.
//
// They have no thread-local memory of their own, so they do nothing but system calls and what is in `state`.

#include "tests/workloads/workload.h"

#include <atomic>
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <new>
#include <sched.h>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t page = 4096, pages = 64;
constexpr std::uint64_t seed = 0x5a7ed;
constexpr int of_main = 70, of_member = 71;  // descriptors that are opened after the move; each member its own
enum Who { alone, sharing, leading, below, passing, members };
constexpr const char* names[members] = {"alone", "sharing", "leading", "below", "passing"};

struct Member {
  pid_t pid = 0;
  std::atomic<pid_t> tid_word = 0;  // the kernel clears it
  std::atomic<int> said = 0;        // what was asked of it last
  std::atomic<bool> sees_main = false;
  std::atomic<long> behind = 0;               // seconds that CLOCK_MONOTONIC is behind CLOCK_REALTIME
  std::atomic<int> handled = 0, handler = 0;  // of SIGUSR1: how often, and by which
  alignas(16) char stack[32 * 1024];
};

struct State {
  Member member[members];
  std::atomic<int> asked = 0;  // 1: look, 2: end
  std::atomic<bool> pass_on = false;
  std::atomic<long> written = 0;
  std::atomic<bool> changed = false;
  std::atomic<char*> mapped = nullptr;
  std::atomic<pid_t> session = 0;
  std::atomic<int> end_of_child = 0;
  std::atomic<long> thread_beats = 0;
  alignas(16) char thread_stack[32 * 1024];
};
State state;
char* memory;
char* common;  // which nobody changes

void nap() {
  const timespec time{0, 2'000'000};
  syscall(SYS_nanosleep, &time, nullptr);
}

long behind() {
  timespec real{}, monotonic{};
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &real);
  syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &monotonic);
  return real.tv_sec - monotonic.tv_sec;
}

void handled_by(int number) {
  const auto self = static_cast<pid_t>(syscall(SYS_getpid));
  for (Member& m : state.member)
    if (m.pid == self) {
      m.handler = number;
      ++m.handled;
    }
}
void first_handler(int) { handled_by(1); }
void second_handler(int) { handled_by(2); }
void third_handler(int) { handled_by(3); }

void handle(void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  must(sigaction(SIGUSR1, &action, nullptr), "sigaction");
}

// Page after page, each of which must have what was written there a turn before.
void write_on() {
  const long n = state.written;
  auto* const at = reinterpret_cast<std::atomic<long>*>(memory + static_cast<std::size_t>(n) % pages * page);
  if (*at != (n < static_cast<long>(pages) ? 0 : n - static_cast<long>(pages) + 1)) state.changed = true;
  *at = n + 1;
  state.written = n + 1;
}

int work_of_thread(void*) {
  for (;; nap()) ++state.thread_beats;
}

// The engine's scratch memory is such a mapping, and this program has none.
bool may_write_and_run_some_memory() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(" rwxp ") != std::string::npos) return true;
  return false;
}

pid_t start(Who who, int shared);

void begin(Who who) {
  if (who == alone) handle(second_handler);
  if (who != leading) return;
  state.session = static_cast<pid_t>(syscall(SYS_setsid));
  constexpr int of_threads = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  clone(work_of_thread, state.thread_stack + sizeof state.thread_stack, of_threads, nullptr);
  if (syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, 0) == 0) syscall(SYS_exit_group, 41);
  start(below, 0);
}

void look(Who who) {
  Member& self = state.member[who];
  self.behind = behind();
  self.sees_main = syscall(SYS_fcntl, of_main, F_GETFD) >= 0;
  syscall(SYS_dup3, 0, of_member + who, 0);
  if (who == alone) {
    const long at = syscall(SYS_mmap, nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    auto* const mapped = reinterpret_cast<char*>(at);
    *mapped = 'm';
    state.mapped = mapped;
  }
  if (who != leading) return;
  state.session = static_cast<pid_t>(syscall(SYS_getsid, 0));
  int status = 0;
  while (syscall(SYS_wait4, -1, &status, WNOHANG, nullptr) == 0) nap();
  state.end_of_child = status;
}

int live(void* argument) {
  const auto who = static_cast<Who>(reinterpret_cast<std::uintptr_t>(argument));
  syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  begin(who);
  Member& self = state.member[who];
  for (self.said = -1; state.asked != 2; nap()) {
    if (who == passing && state.pass_on) break;
    if (who == alone && state.asked == 0) write_on();
    if (state.asked != 1 || self.said == 1) continue;
    look(who);
    self.said = 1;
  }
  if (who == leading) {
    int status = 0;
    syscall(SYS_wait4, state.member[below].pid, &status, 0, nullptr);
    if (status != (20 + below) << 8) syscall(SYS_exit_group, 99);
  }
  syscall(SYS_exit_group, 20 + who);
  return 0;
}

pid_t start(Who who, int shared) {
  Member& m = state.member[who];
  m.said = 0;
  m.pid =
      clone(live, m.stack + sizeof m.stack, CLONE_VM | CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID | shared | SIGCHLD,
            reinterpret_cast<void*>(static_cast<std::uintptr_t>(who)), &m.tid_word, nullptr, &m.tid_word);
  return m.pid;
}

void begun(Who who) {
  must(start(who, who == sharing ? CLONE_FILES | CLONE_FS | CLONE_SIGHAND : 0), "clone");
  while (state.member[who].said == 0) nap();
}

void check_end(Workload& w, Who who) {
  int status = 0;
  must(waitpid(state.member[who].pid, &status, 0), "waitpid");
  w.check(WIFEXITED(status) && WEXITSTATUS(status) == 20 + who, "%s: it ended with status %#x", names[who], status);
  w.check(state.member[who].tid_word == 0, "%s: its end has not cleared its TID", names[who]);
}

// Who has ended makes room for the next.
void pass_on(Workload& w) {
  state.pass_on = true;
  check_end(w, passing);
  state.pass_on = false;
  begun(passing);
}

// A child makes a process that uses its memory, and ends: that one has it to itself then, as a child of this process.
struct Legacy {
  std::atomic<int> asked = 0;  // 1: the child is to end, 2: its heir
  std::atomic<pid_t> heir = 0;
};
Legacy* legacy;
pid_t testator = 0;
const pid_t root = getpid();

int inherit(void*) {
  for (std::uint64_t turns = 0; legacy->asked != 2; nap()) {
    if (turns > 0 && !holds(memory, page, turns)) syscall(SYS_exit_group, 98);
    fill(memory, page, ++turns);
    if (syscall(SYS_kill, root, 0) != 0) syscall(SYS_exit_group, 97);
  }
  syscall(SYS_exit_group, 30);
  return 0;
}

void bequeath() {
  legacy->asked = 0;
  legacy->heir = 0;
  testator = must(fork(), "fork");
  if (testator == 0) {
    legacy->heir = clone(inherit, state.thread_stack + sizeof state.thread_stack, CLONE_VM | SIGCHLD, nullptr);
    while (legacy->asked == 0) nap();
    _exit(29);
  }
  while (legacy->heir == 0) nap();
}

void end_of_testator(Workload& w) {
  int status = 0;
  legacy->asked = 1;
  must(waitpid(testator, &status, 0), "waitpid");
  w.check(status == 29 << 8, "who left its memory to another ended with status %#x", status);
  testator = 0;
}

void end_of_heir(Workload& w) {
  int status = 0;
  legacy->asked = 2;
  must(waitpid(legacy->heir, &status, 0), "waitpid");
  w.check(status == 30 << 8, "who was left memory ended with status %#x", status);
}

void hand_down(Workload& w) {
  if (testator != 0) return end_of_testator(w);
  end_of_heir(w);
  bequeath();
}

void check_signal(Workload& w, Who who, int handler) {
  Member& m = state.member[who];
  must(kill(m.pid, SIGUSR1), "kill");
  w.wait_until([&] { return m.handled > 0; });
  w.check(m.handler == handler, "%s: the signal was handled by handler %d, not %d", names[who], m.handler.load(),
          handler);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  memory = map(pages * page);
  common = map(page);
  fill(common, page, seed);
  must(open("/dev/null", O_RDWR), "open");
  handle(first_handler);
  legacy = new (must(mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), "mmap")) Legacy;
  must(prctl(PR_SET_CHILD_SUBREAPER, 1), "PR_SET_CHILD_SUBREAPER");
  bequeath();
  for (const Who who : {alone, sharing, leading, passing}) begun(who);
  while (state.member[below].said == 0) nap();
  const long before = behind();
  w.ready();
  long turns = 0;
  w.wait_for_verify([&] {
    pass_on(w);
    if (++turns % 8 == 0) hand_down(w);
  });

  const long beats = state.thread_beats;
  w.check(dup2(0, of_main) == of_main, "dup2");
  state.asked = 1;
  for (int who = 0; who < members; who++) {
    const bool share = who == sharing;
    w.check(w.wait_until([&] { return state.member[who].said == 1; }), "%s: it does not see what is written",
            names[who]);
    const long clocks = state.member[who].behind - before;
    w.check(clocks > -60 && clocks < 60, "%s: its clock is off by %ld s", names[who], clocks);
    w.check(state.member[who].sees_main == share, "%s: what the parent has opened is %s", names[who],
            share ? "missing" : "there");
    w.check((fcntl(of_member + who, F_GETFD) >= 0) == share, "%s: what it has opened is %s", names[who],
            share ? "missing" : "there");
  }
  w.check(holds(common, page, seed), "what all have in common changed");
  w.check(!may_write_and_run_some_memory(), "memory that the engine has borrowed is left");
  w.check(!state.changed, "memory that another process writes changed");
  w.check(state.mapped != nullptr && *state.mapped == 'm', "what another process has mapped is not there");
  w.check(state.session == state.member[leading].pid, "leading: the session is %d", state.session.load());
  w.check(state.end_of_child == 41 << 8, "leading: its child ended with status %#x", state.end_of_child.load());
  w.check(w.wait_until([&] { return state.thread_beats > beats; }), "leading: its thread does not run");

  handle(third_handler);
  check_signal(w, alone, 2);
  check_signal(w, sharing, 3);
  check_signal(w, leading, 1);
  if (testator != 0) end_of_testator(w);
  end_of_heir(w);
  state.asked = 2;
  for (const Who who : {alone, sharing, leading, passing}) check_end(w, who);
  return w.finish();
}
