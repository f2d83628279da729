// Checks: NUMA memory policies of threads, one of each kind; of a thread that is made later, which has its maker's; of
// children, which have their parent's or one of their own.

#include "tests/workloads/children.h"
#include "tests/workloads/numa.h"

#include <deque>
#include <thread>

using namespace godwit::workloads;
using numa::Policy;

namespace {

// Has a policy until it is asked whether it still has it.
class Member {
 public:
  Member(Workload& w, std::string name, const Policy& policy, std::atomic<bool>& asked) {
    thread_ = std::thread([this, &w, name, policy, &asked] {
      numa::set_for_thread(policy);
      const Policy had = numa::of_thread();  // without nodes that are not there
      set_ = true;
      while (!asked) pause_for(0.001);
      w.check(numa::of_thread() == had, "the thread with %s has %s, not %s", name.c_str(),
              numa::of_thread().text().c_str(), had.text().c_str());
    });
    while (!set_) pause_for(0.001);
  }
  ~Member() { thread_.join(); }

 private:
  std::atomic<bool> set_ = false;
  std::thread thread_;
};

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const unsigned long first = numa::first_node(w), next = first << 1;
  const Policy own{.mode = MPOL_PREFERRED | MPOL_F_STATIC_NODES, .nodes = {first | next}};
  must(numa::set_for_thread(own) ? 0 : -1, "set_mempolicy");

  std::atomic<bool> asked = false;
  {
    std::deque<Member> members;
    members.emplace_back(w, "the default", Policy{}, asked);
    members.emplace_back(w, "its own node", Policy{MPOL_LOCAL}, asked);
    members.emplace_back(w, "a preferred node", Policy{MPOL_PREFERRED, {first}}, asked);
    members.emplace_back(w, "several preferred nodes", Policy{MPOL_PREFERRED_MANY, {first | next}}, asked);
    members.emplace_back(w, "a binding", Policy{MPOL_BIND, {first | next}}, asked);
    members.emplace_back(w, "balancing", Policy{MPOL_BIND | MPOL_F_NUMA_BALANCING, {first}}, asked);
    members.emplace_back(w, "static nodes", Policy{MPOL_BIND | MPOL_F_STATIC_NODES, {first | next}}, asked);
    members.emplace_back(w, "relative nodes", Policy{MPOL_INTERLEAVE | MPOL_F_RELATIVE_NODES, {6}}, asked);
    members.emplace_back(w, "interleaving", Policy{MPOL_INTERLEAVE, {first}}, asked);
    members.emplace_back(w, "weights", Policy{numa::weighted_interleave, {first}}, asked);

    const auto child = [&](const char* name, const Policy& policy, bool of_its_own) {
      return start_child(w, name, 3, [&w, name, policy, of_its_own] {
        if (of_its_own) numa::set_for_thread(policy);
        settled(w, name);
        await(w, "end");
        w.check(numa::of_thread() == policy, "the %s has %s", name, numa::of_thread().text().c_str());
      });
    };
    const Child heir = child("heir", own, false);
    const Child other = child("child of its own mind", {MPOL_INTERLEAVE, {first}}, true);
    const Child without = child("child without", {}, true);
    for (const Child* c : {&heir, &other, &without}) await_settled(w, c->name);

    w.ready();
    w.wait_for_verify();
    asked = true;
    w.tell("end", "");
    for (const Child* c : {&heir, &other, &without}) check_end(w, *c);
  }
  w.check(numa::of_thread() == own, "the first thread has %s", numa::of_thread().text().c_str());
  std::thread([&] {
    w.check(numa::of_thread() == own, "a new thread has %s", numa::of_thread().text().c_str());
  }).join();
  return w.finish();
}
