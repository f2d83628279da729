// Whether TCP sends by a clock.
//
// BBR does, where it is the system's choice: with a timer for each burst, which costs more CPU time than what it sends
// over a short path. Once a socket is connected its pacing cannot be turned off (tcp(7) has no way, Linux 6.18). So it
// is connected without, and gets what the system has chosen when the round trip turns out to be long. Nothing here
// fails: what cannot be changed stays.
#pragma once

namespace godwit::net {

void begin_unpaced(int socket);  // before connect(2)
void pace_if_far(int socket);    // after it

bool is_near(int socket);  // a round trip of half a millisecond at most, if the kernel has measured one

}  // namespace godwit::net
