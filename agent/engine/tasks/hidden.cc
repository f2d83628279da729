#include "agent/engine/tasks/hidden.h"

#include "agent/engine/tasks/filters.h"
#include "agent/engine/tasks/registers.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace godwit::engine::tasks {
namespace {

constexpr int io_permissions = 0x201;  // NT_386_IOPERM
constexpr std::string_view keys_hint = "run it without keys of its own, or revoke them before the move";

long own_session_keyring() { return ::syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0); }

// An empty keyring has nothing to lose. The session keyring may also be the user's default one, or the engine's own,
// which a restored task gets in its place. Asking for it installs the default when there is none yet, as any use would.
void ask_keyrings(Inquiry& ask, const std::string& name, std::vector<Refusal>& found) {
  Batch& batch = ask.batch();
  const std::size_t thread = batch.attempt("read the thread keyring", SYS_keyctl, KEYCTL_READ, KEY_SPEC_THREAD_KEYRING,
                                           0, 0),
                    process = batch.attempt("read the process keyring", SYS_keyctl, KEYCTL_READ,
                                            KEY_SPEC_PROCESS_KEYRING, 0, 0),
                    session = batch.attempt("find the session keyring", SYS_keyctl, KEYCTL_GET_KEYRING_ID,
                                            KEY_SPEC_SESSION_KEYRING, 0),
                    usual = batch.attempt("find the user's session keyring", SYS_keyctl, KEYCTL_GET_KEYRING_ID,
                                          KEY_SPEC_USER_SESSION_KEYRING, 0),
                    content = batch.attempt("read the session keyring", SYS_keyctl, KEYCTL_READ,
                                            KEY_SPEC_SESSION_KEYRING, 0, 0),
                    target = batch.attempt("read where requested keys go", SYS_keyctl, KEYCTL_SET_REQKEY_KEYRING,
                                           KEY_REQKEY_DEFL_NO_CHANGE);
  ask.then([=, &found](const Batch& b) {
    if (b.result(thread) > 0)
      found.push_back({name, "the keys in its thread keyring are not carried", std::string(keys_hint)});
    if (b.result(process) > 0)
      found.push_back({name, "the keys in its process keyring are not carried", std::string(keys_hint)});
    if (b.result(session) > 0 && b.result(session) != b.result(usual) && b.result(content) != 0 &&
        b.result(session) != own_session_keyring())
      found.push_back({name, "the keys in its session keyring are not carried", std::string(keys_hint)});
    if (b.result(target) > KEY_REQKEY_DEFL_DEFAULT)
      found.push_back({name, "a keyring of its choice for requested keys is not carried", std::string(keys_hint)});
  });
}

// Of the process; 16-bit code and emulators have one.
void ask_descriptor_table(Inquiry& ask, const std::string& name, std::vector<Refusal>& found) {
  constexpr int read_table = 0;
  const RemoteAddr entry = ask.batch().reserve(8);
  const std::size_t bytes =
      ask.batch().attempt("read the local descriptor table", SYS_modify_ldt, read_table, entry, 8);
  ask.then([=, &found](const Batch& b) {
    if (static_cast<int>(b.result(bytes)) > 0)
      found.push_back({name, "a local descriptor table (modify_ldt) is not carried", ""});
  });
}

// Of the process: keys that are allocated, whether memory has them or not. pkey_mprotect looks at the key first, then
// at the memory, and above all addresses there is none to give it to.
void ask_protection_keys(Inquiry& ask, const std::string& name, std::vector<Refusal>& found) {
  constexpr int allocated = -ENOMEM;  // else EINVAL
  constexpr std::uint64_t nowhere = 0x7fff'ffff'f000;
  std::vector<std::size_t> calls;
  for (int key = 1; key < 16; key++)
    calls.push_back(ask.batch().attempt("look for a protection key", SYS_pkey_mprotect, nowhere, page_size, 0, key));
  ask.then([=, &found](const Batch& b) {
    if (std::ranges::any_of(calls, [&](std::size_t call) { return b.result(call) == allocated; }))
      found.push_back({name, "its protection keys are not carried", "run it without protection keys (pkey_alloc)"});
  });
}

struct UserDesc {  // struct user_desc, whose bit fields are one word here
  std::uint32_t entry_number = 0, base = 0, limit = 0, flags = 0;
};
constexpr std::uint32_t not_present = 1 << 5;

// set_thread_area's entries, which 64-bit programs do not use for their thread-local storage, and can only make by a
// call of the 32-bit kind. Only a tracer can read them without such a call.
void look_at_thread_areas(pid_t tid, const std::string& name, std::vector<Refusal>& found) {
  constexpr auto get_thread_area = static_cast<__ptrace_request>(25);  // PTRACE_GET_THREAD_AREA
  for (std::uintptr_t entry = 12; entry < 15; entry++) {
    UserDesc segment;
    if (::ptrace(get_thread_area, tid, entry, &segment) == 0 && !(segment.flags & not_present))
      found.push_back({name, "a segment of its own (set_thread_area) is not carried", ""});
  }
}

// A thread may have registered a ring of io_uring and closed the descriptor. A call that submits nothing finds it.
void ask_rings(Inquiry& ask, const std::string& name, std::vector<Refusal>& found) {
  constexpr int most_rings = 16;
  std::vector<std::size_t> calls;
  for (int ring = 0; ring < most_rings; ring++)
    calls.push_back(ask.batch().attempt("look for a ring", SYS_io_uring_enter, ring, 0, 0, IORING_ENTER_REGISTERED_RING,
                                        0, 0));  // 5.18+
  ask.then([=, &found](const Batch& b) {
    const auto there = [&](std::size_t call) { return b.result(call) >= 0 || b.result(call) == -EBADFD; };
    if (std::ranges::any_of(calls, there))
      found.push_back({name, "its io_uring, which it has registered, is not carried",
                       "configure the program to use epoll instead of io_uring"});
  });
}

void look_at_io_permissions(pid_t tid, const std::string& name, std::vector<Refusal>& found) {
  std::array<std::byte, 8192> bitmap;
  iovec into{bitmap.data(), bitmap.size()};
  if (::ptrace(PTRACE_GETREGSET, tid, io_permissions, &into) == 0 && into.iov_len)
    found.push_back({name, "the right to use I/O ports (ioperm) is not carried", ""});
}

// The kernel gives a thread room for tiles when it first uses them, so nobody else can put them there.
void look_at_tiles(pid_t tid, const std::string& name, std::vector<Refusal>& found) {
  static const bool here = enabled_xfeatures() & registers::on_request;
  if (here && (registers::read_features_in_use(tid) & registers::on_request))
    found.push_back(
        {name, "the content of its tile registers (AMX) is not carried", "try again when it has left them"});
}

void ask_landlock(Inquiry& ask, const std::string& name, pid_t witness, std::vector<Refusal>& found) {
  if (!witness) return;
  const RemoteAddr head = ask.batch().reserve(2 * sizeof(std::uint64_t));
  const std::size_t look =
      ask.batch().attempt("look at a witness", SYS_get_robust_list, witness, head, head + sizeof(std::uint64_t));
  ask.then([=, &found](const Batch& b) {
    if (b.result(look) == -EPERM)
      found.push_back({name, "a Landlock domain, which it is in, is not carried", "run it without Landlock"});
  });
}

}  // namespace

void ask_hidden(Inquiry& ask, pid_t pid, pid_t tid, const Witnesses* witnesses, std::vector<Refusal>& found) {
  const bool leader = tid == pid;
  const std::string name = fmt::format("{} {}", leader ? "process" : "thread", tid);
  ask_keyrings(ask, name, found);
  ask_rings(ask, name, found);
  if (leader) ask_descriptor_table(ask, name, found);
  if (leader) ask_protection_keys(ask, name, found);
  look_at_thread_areas(tid, name, found);
  look_at_io_permissions(tid, name, found);
  look_at_tiles(tid, name, found);
  if (witnesses) ask_landlock(ask, fmt::format("thread {}", tid), witnesses->of(tid), found);
}

bool are_asked_at_once(const Hold& hold) {
  constexpr std::size_t most = 32;  // 2 ms
  return hold.threads().size() <= most;
}

void refuse_hidden(Hold& hold, const Witnesses& witnesses, Asked asked) {
  std::vector<Refusal> found;
  for (const HeldThread& t : hold.threads()) {
    if (asked == Asked::some && t.tid != hold.pid() && !are_asked_at_once(hold)) continue;
    Inquiry ask(hold.remote(t.tid), hold.scratch());
    ask_hidden(ask, hold.pid(), t.tid, &witnesses, found);
    filters::refuse_chain(t.tid, fmt::format("thread {}", t.tid), found);
    ask.run();
  }
  throw_refusals(found);
}

}  // namespace godwit::engine::tasks
