// A process that does to its memory whatever a tracker might miss. For tests.
#pragma once

namespace godwit::engine {

// Says "r" to `ready` when it has one of each kind, and goes on for ever.
[[noreturn]] void hostile_target(int ready);

}  // namespace godwit::engine
