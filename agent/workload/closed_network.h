// The network of a cgroup, closed: what its sockets send is dropped, so nobody outside can tell that it runs.
//
// A copy that was thawed but whose `resumed` is not recorded yet may still turn out to be the one that does not count
// (docs/commit-protocol.md); until then none of its data must leave. It is a BPF program at the cgroup's egress
// (4.10+), which holds for the sockets that were made by tasks in the cgroup. It stays when the agent dies, and ends
// with the cgroup. Other programs at the same cgroup, of an operator or of systemd, go on beside it.
//
// What may pass is what a host says while a program that listens stands still: handshakes and acknowledgements of TCP
// without data. So whoever connects to a copy early waits for its answer, as with one that is frozen, and does not
// repeat its SYN after a second. A datagram that is dropped is told its sender as one that the network has lost.
#pragma once

#include "agent/workload/cgroup.h"

namespace godwit::workload {

// Errc::kernel_missing where the kernel, its lockdown, or a program at a cgroup above lets nobody add such a one.
void close_network(const Cgroup& cgroup);
// What that would say of a cgroup below `root`, tried with one that is made for it; empty: it would not fail.
std::string why_network_stays_open(const std::string& root);
// Of one that is not closed: nothing.
void open_network(const Cgroup& cgroup);
bool network_closed(const Cgroup& cgroup);

}  // namespace godwit::workload
