// Checks: a table of descriptors, and a working directory with its umask, that processes share (CLONE_FILES, CLONE_FS):
// what one opens, closes or changes the others see, and nobody else; through a parent who has left them; that a record
// lock belongs to all who share the table; and that shared memory which one maps once more, all the time, is the same.

#include "tests/workloads/children.h"

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <list>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <thread>

using namespace godwit::workloads;

namespace {

constexpr int first = 70;  // descriptors that are opened after the move, one for each process
constexpr int theirs = 60, dropped = 61, locked = 62;

std::string here() {
  char path[4096] = "";
  return getcwd(path, sizeof path) ? path : "nowhere";
}

// umask(2) would change it for the others for a moment.
unsigned mask_now() {
  const std::string status = read_file("/proc/self/status");
  const std::size_t at = status.find("Umask:");
  return at == std::string::npos ? ~0u : static_cast<unsigned>(std::stoul(status.substr(at + 6), nullptr, 8));
}

bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

int open_at(int number) {
  const int fd = must(open("/dev/null", O_RDWR | O_CLOEXEC), "open /dev/null");
  must(dup2(fd, number), "dup2");
  close(fd);
  return number;
}

flock whole_file(short type) {
  flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

// Whether somebody else holds a lock on the file behind `fd`.
bool locked_by_another(int fd) {
  flock lock = whole_file(F_WRLCK);
  return fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

// What the main process has changed after the move, as whoever shares it with him must see it, and nobody else.
void check_files(Workload& w, const char* who, bool share) {
  w.check(is_open(first) == share, "%s: what the parent has opened is %s", who, share ? "missing" : "there");
  w.check(is_open(dropped) == !share, "%s: what the parent has closed is %s", who, share ? "there" : "missing");
}

void check_place(Workload& w, const char* who, bool share, const std::string& before) {
  const std::string wanted = share ? w.path("new") : before;
  w.check(here() == wanted, "%s: the working directory is %s, not %s", who, here().c_str(), wanted.c_str());
  w.check(mask_now() == (share ? 0035 : 0027), "%s: the umask is %03o", who, mask_now());
}

// Shared memory with ever more mappings, and fewer again.
void map_again(Workload& w, const std::atomic<bool>& stop) {
  constexpr std::size_t size = 64 * 1024;
  constexpr std::uint64_t seed = 77;
  const auto check = [&](const char* at) {
    w.check(holds(at, size, seed), "shared memory that is mapped twice changed");
  };
  auto* const memory =
      static_cast<char*>(must(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), "mmap"));
  fill(memory, size, seed);
  std::list<char*> more;
  while (!stop) {
    more.push_back(static_cast<char*>(must(mremap(memory, 0, size, MREMAP_MAYMOVE), "mremap")));
    check(more.back());
    pause_for(0.005);
    if (more.size() < 40) continue;
    for (char* at : more) must(munmap(at, size), "munmap");
    more.clear();
  }
  check(memory);
  for (const char* at : more) check(at);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  umask(0027);
  must(mkdir(w.path("old").c_str(), 0700), "mkdir");
  must(mkdir(w.path("new").c_str(), 0700), "mkdir");
  must(chdir(w.path("old").c_str()), "chdir");
  const std::string before = here();
  open_at(theirs);
  open_at(dropped);
  const int file = must(open(w.path("locked").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open");
  must(dup2(file, locked), "dup2");                  // closed, `file` would take the lock with it
  must(unlink(w.path("locked").c_str()), "unlink");  // so that it is carried: a lock cannot be held on two hosts
  flock lock = whole_file(F_WRLCK);
  must(fcntl(locked, F_SETLK, &lock), "F_SETLK");

  // CRIU knows no shared directories, and shared tables only of parents and their children.
  const int place = w.beside_criu() ? 0 : CLONE_FS, past_parent = w.beside_criu() ? 0 : CLONE_FILES | CLONE_FS;

  // `number`: a descriptor that it opens after the move; `files`, `fs`: whether it shares those of the main process.
  const auto check_all = [&](const char* name, int number, bool files, bool fs) {
    settled(w, name);
    w.wait_for_verify();
    await(w, "changed");
    check_files(w, name, files);
    check_place(w, name, fs, before);
    w.check(locked_by_another(locked) != files, "%s: the record lock is %s", name, files ? "another's" : "its own");
    open_at(number);
    w.tell((std::string("seen-") + name).c_str(), "");
    await(w, "end");
  };
  const auto stay = [&](const std::string& name, int code, int number, int shared) {
    const bool files = (shared & CLONE_FILES) != 0, fs = (shared & CLONE_FS) != 0;
    return start_child(w, name, code, [=, &check_all] { check_all(name.c_str(), number, files, fs); }, shared);
  };
  const Child children[] = {
      stay("both", 11, first + 1, CLONE_FILES | place),
      stay("files", 12, first + 2, CLONE_FILES),
      stay("place", 13, first + 3, place),
      stay("none", 14, first + 4, 0),
      // Alone, its own child shares with its parent past it.
      start_child(
          w, "between", 15,
          [&] {
            const Child below = stay("below", 16, first + 6, past_parent);
            must(unshare(CLONE_FILES | CLONE_FS), "unshare");
            await_settled(w, below.name);
            check_all("between", first + 5, false, false);
            check_end(w, below);
            w.check(!is_open(first + 6), "between: what its child has opened is there");
          },
          past_parent),
      // Shares with its child only.
      start_child(w, "pair", 17,
                  [&] {
                    const Child second = start_child(
                        w, "second", 18,
                        [&] {
                          check_all("second", first + 8, false, false);
                          w.check(is_open(first + 7), "second: what its parent has opened is missing");
                        },
                        CLONE_FILES);
                    await_settled(w, second.name);
                    check_all("pair", first + 7, false, false);
                    w.check(is_open(first + 8), "pair: what its child has opened is missing");
                    check_end(w, second);
                  }),
  };
  for (const Child& child : children) await_settled(w, child.name);

  std::atomic<bool> stop = false;
  std::thread mapper([&] { map_again(w, stop); });
  w.ready();
  w.wait_for_verify();
  stop = true;
  mapper.join();

  w.check(is_open(theirs) && is_open(dropped), "descriptors are missing");
  w.check(!locked_by_another(locked), "the record lock is another's");
  check_place(w, "main", false, before);
  open_at(first);
  close(dropped);
  must(chdir(w.path("new").c_str()), "chdir");
  umask(0035);
  w.tell("changed", "");
  for (const char* name : {"both", "files", "place", "none", "between", "below", "pair", "second"})
    await(w, std::string("seen-") + name);
  if (past_parent != 0) w.check(is_open(first + 6), "what child 6 has opened is missing");
  for (const int number : {1, 2}) w.check(is_open(first + number), "what child %d has opened is missing", number);
  for (const int number : {3, 4, 5, 7, 8})
    w.check(!is_open(first + number), "what child %d has opened is there", number);
  w.tell("end", "");
  for (const Child& child : children) check_end(w, child);
  return w.finish();
}
