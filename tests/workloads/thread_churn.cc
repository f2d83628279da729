// Checks: threads that are born and end all the time; each computes a value that must arrive, none may be lost.

#include "tests/workloads/workload.h"

#include <list>
#include <thread>

using namespace godwit::workloads;

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> born = 0;
  std::list<std::thread> parents;
  for (std::uint64_t p = 0; p < 3; ++p) {
    parents.emplace_back([&w, &stop, &born, p] {
      for (std::uint64_t n = 0; !stop; ++n) {
        std::uint64_t answer = 0;
        std::thread child([&answer, n] { answer = mix(n); });
        std::thread sibling([] { pause_for(0.001); });
        child.join();
        sibling.join();
        w.check(answer == mix(n), "child %llu of thread %llu did not do its work", static_cast<unsigned long long>(n),
                static_cast<unsigned long long>(p));
        ++born;
      }
    });
  }
  w.ready();
  w.wait_for_verify();
  const std::uint64_t before = born;
  w.check(w.wait_until([&] { return born > before + 10; }), "no threads are born any more");
  stop = true;
  for (std::thread& parent : parents) parent.join();
  return w.finish();
}
