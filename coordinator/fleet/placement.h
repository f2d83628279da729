// Where the workloads of a node can go: a pure function of what the agents say of their nodes.
//
// The largest first, each onto the node that then has the most memory free. What goes nowhere is named with the reason
// of every node that was asked for.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace godwit::coordinator {

// A node as a place to be.
struct Seat {
  std::string node;
  bool up = false;
  bool cordoned = false;
  std::uint64_t memory_available = 0;  // 0: not known
  std::uint64_t xfeatures = 0;         // register state that it can hold, as bits of XCR0
  std::set<std::string> cpu_flags;     // as in /proc/cpuinfo
  std::set<std::string> names;         // of the workloads that live there
};

// A workload that needs a place.
struct Piece {
  std::string workload;
  std::uint64_t needed_bytes = 0;                 // resident memory, and the spool while it arrives
  std::uint64_t xfeatures = 0;                    // register state that it uses
  std::map<std::string, std::string> refused_by;  // nodes that have turned it away already, and why
};

struct Placed {
  std::string workload;
  std::string node;    // empty: nowhere
  std::string reason;  // then: why not, node by node
};

// In the order in which they should move. `from` is the node that they leave.
std::vector<Placed> place(const Seat& from, std::vector<Piece> pieces, std::vector<Seat> seats);

}  // namespace godwit::coordinator
