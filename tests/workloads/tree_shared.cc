// Checks: memory that processes share: what one writes the others see, mutexes and semaphores in it (one held, one
// waited for), a memfd that several have mapped, and a view of a part of it.

#include "tests/workloads/blocked_call.h"
#include "tests/workloads/children.h"

#include <new>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <vector>

using namespace godwit::workloads;

namespace {

constexpr std::size_t page = 4096, pages = 64, size = pages * page;
constexpr int writers = 2;

struct Board {
  pthread_mutex_t mutex, held;
  sem_t asked, answered;
  std::uint64_t sum;
  std::atomic<std::uint64_t> shares[writers + 1];
};

char* shared(std::size_t bytes, int fd = -1) {
  const int flags = MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0);
  return static_cast<char*>(must(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0), "mmap"));
}

Board* make_board() {
  Board* const board = new (shared(sizeof(Board))) Board{};
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&board->mutex, &attributes);
  pthread_mutex_init(&board->held, &attributes);
  sem_init(&board->asked, 1, 0);
  sem_init(&board->answered, 1, 0);
  return board;
}

void add_one(Board* board, int writer) {
  pthread_mutex_lock(&board->mutex);
  ++board->sum;
  ++board->shares[writer];
  pthread_mutex_unlock(&board->mutex);
}

void check_content(Workload& w, const char* memory, const char* file) {
  for (std::size_t i = 0; i < pages; ++i) {
    w.check(holds(memory + i * page, page, 0x5a0 + i), "page %zu of the shared memory changed", i);
    w.check(holds(file + i * page, page, 0x5b0 + i), "page %zu of the memfd changed", i);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  Board* const board = make_board();
  char* const memory = shared(size);
  const int fd = must(memfd_create("between", MFD_CLOEXEC), "memfd_create");
  must(ftruncate(fd, size), "ftruncate");
  char* const file = shared(size, fd);
  std::vector<Child> children;
  for (int i = 0; i < writers; ++i) {
    children.push_back(start_child(w, "writer-" + std::to_string(i), 3 + i, [&, i] {
      // The second one has another view of the memfd, and only the first page of the memory.
      char* const own_view = i == 1 ? shared(size, fd) : file;
      if (i == 1) must(munmap(memory + page, size - page), "munmap");
      if (i == 0) pthread_mutex_lock(&board->held);
      settled(w, "writer-" + std::to_string(i));
      w.wait_for_verify([&] { add_one(board, i); });
      if (i == 0) check_content(w, memory, own_view);
      sem_post(&board->answered);
      while (sem_wait(&board->asked) != 0) continue;  // what the parent has written after the move
      w.check(holds(memory, page, 0x5c0), "what the parent wrote to the shared memory is not seen");
      w.check(holds(own_view + 7 * page, page, 0x5c1), "what the parent wrote to the memfd is not seen");
      fill(own_view + static_cast<std::size_t>(8 + i) * page, page, 0x5d0 + static_cast<std::uint64_t>(i));
      if (i == 0) pthread_mutex_unlock(&board->held);
      sem_post(&board->answered);
    }));
    await_settled(w, children.back().name);
  }
  for (std::size_t i = 0; i < pages; ++i) {
    fill(memory + i * page, page, 0x5a0 + i);
    fill(file + i * page, page, 0x5b0 + i);
  }
  BlockedCall lock("a lock that the first child holds", [=] { return pthread_mutex_lock(&board->held); });
  lock.settle();

  w.ready();
  w.wait_for_verify([&] { add_one(board, writers); });
  lock.still_blocked(w);
  check_content(w, memory, file);
  const std::uint64_t before = board->shares[writers];
  add_one(board, writers);
  w.check(board->shares[writers] == before + 1, "nothing can be written to the board");
  const auto all_answer = [&] {
    const auto one = [&] { return sem_trywait(&board->answered) == 0; };
    for (int i = 0; i < writers; ++i) w.check(w.wait_until(one), "a child does not answer");
  };
  all_answer();  // they have checked what was there before
  fill(memory, page, 0x5c0);
  fill(file + 7 * page, page, 0x5c1);
  for (int i = 0; i < writers; ++i) sem_post(&board->asked);
  all_answer();
  for (const Child& child : children) check_end(w, child);
  lock.comes_back(w, 0);
  for (std::size_t i = 0; i < writers; ++i)
    w.check(holds(file + (8 + i) * page, page, 0x5d0 + i), "what child %zu wrote to the memfd is not seen", i);
  std::uint64_t shares = 0;
  for (const auto& share : board->shares) shares += share;
  w.check(shares == board->sum, "the sum is %lu, its shares are %lu", board->sum, shares);
  return w.finish();
}
