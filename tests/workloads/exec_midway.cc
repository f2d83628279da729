// Checks: a process that executes another image when the runner asks for it (live: in pre-copy): none of the first
// image's memory is left, and what survives an exec has survived. As exec_same_place, both images have everything at
// the same addresses.

#include "tests/workloads/workload.h"

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

namespace {

constexpr std::size_t size = 16 << 20;
constexpr int kept_fd = 70;
constexpr int closed_fd = 71;

// The same addresses in both images, with other content.
char* fixed() {
  return static_cast<char*>(must(mmap(reinterpret_cast<void*>(0x5000'0000), size, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
                                 "mmap"));
}

// Arguments of the same length, so that the stack begins at the same place.
[[noreturn]] void become(char** argv, std::string image) {
  char* const arguments[] = {argv[0], argv[1], image.data(), nullptr};
  execv("/proc/self/exe", arguments);
  give_up("execv");
}

int first_image(Workload& w, char** argv) {
  char* const memory = fixed();
  fill(memory, size, 1);
  const int fd = must(open(w.path("kept").c_str(), O_RDWR | O_CREAT, 0644), "open");
  must(write(fd, "first ", 6), "write");
  must(dup3(fd, kept_fd, 0), "dup3");
  must(dup3(fd, closed_fd, O_CLOEXEC), "dup3");
  signal(SIGUSR1, SIG_IGN);
  signal(SIGUSR2, [](int) {});
  prctl(PR_SET_NAME, "first-image");
  std::thread([] { pause_for(3600); }).detach();

  w.ready();
  std::uint64_t turn = 0;
  while (!w.asked("exec")) {
    ++turn;
    fill(memory + turn * 4096 % size, 4096, turn);
    pause_for(0.005);
  }
  become(argv, "second");
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const char* const name = std::getenv("WORKLOAD");
  if (argc < 3 && name != nullptr && name == std::string("exec_same_place")) {
    must(personality(ADDR_NO_RANDOMIZE), "personality");
    become(argv, "first_");
  }
  if (argc < 3 || argv[2] == std::string("first_")) return first_image(w, argv);

  char* const memory = fixed();
  for (std::size_t i = 0; i < size; i += 8192) fill(memory + i, 4096, 2 + i);
  std::vector<char> heap(1 << 20);
  fill(heap.data(), heap.size(), 3);
  w.ready();
  w.tell("exec.done", "");
  w.wait_for_verify();

  for (std::size_t i = 0; i < size; i += 8192) {
    w.check(holds(memory + i, 4096, 2 + i) && all_zero(memory + i + 4096, 4096),
            "the memory at %#zx is not the second image's", i);
  }
  w.check(holds(heap.data(), heap.size(), 3), "the heap changed");
  char comm[16] = {};
  prctl(PR_GET_NAME, comm);
  w.check(std::strcmp(comm, "exe") == 0 || std::strcmp(comm, "exec_midway") == 0, "the name is %s", comm);
  struct sigaction action{};
  sigaction(SIGUSR1, nullptr, &action);
  w.check(action.sa_handler == SIG_IGN, "an ignored signal is not ignored any more");
  sigaction(SIGUSR2, nullptr, &action);
  w.check(action.sa_handler == SIG_DFL, "a handler of the first image is there");
  w.check(fcntl(closed_fd, F_GETFD) == -1, "a descriptor with FD_CLOEXEC is open");
  w.check(write(kept_fd, "second", 6) == 6 && read_file(w.path("kept")) == "first second",
          "the kept descriptor leads elsewhere");
  return w.finish();
}
