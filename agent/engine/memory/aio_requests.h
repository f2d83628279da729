// Whether AIO requests are in flight, which cannot be moved. The kernel shows that to nobody, but a context has a fixed
// number of places, and a request in flight takes up one, as does an event that nobody has fetched. So, while nothing
// of the process runs, requests that come to nothing are submitted until there is no place left; as many as there are
// places means that none was taken. Then all of them are fetched, and more are submitted and fetched, until the ring
// has gone round once and is as before.
//
// Places are set aside for CPUs on which requests were submitted or completed. Where some are missing, the others are
// visited, too.
#pragma once

#include "agent/engine/ptrace/hold.h"

#include <optional>

namespace godwit::engine {

// Errc::refused: what is no ring of this process's, or not as the kernel has made it.
void refuse_strange_aio_rings(Hold& hold);

// The same; returns what is in the way when there are any, or too many events that nobody has fetched. What a disk does
// is over soon, once nothing new is submitted: that is waited for. Uses the scratch memory. Throws Errc::busy when
// somebody else sends SIGSTOP meanwhile.
std::optional<Error> find_aio_requests(Hold& hold);

// Throws what is in the way.
void refuse_aio_requests(Hold& hold);

// What a look has left in a process whose engine died in it: afterwards its rings are as before, and nothing of ours is
// there. Where that fails, since somebody else has written into a ring, it is logged: the process does not stay stopped
// for it.
void finish_aio_look(Journal::Process& journal, RemoteSyscalls& leader);

}  // namespace godwit::engine
