// What is queued in a pseudo terminal. It can only be read by taking it out, so a dump takes it out and puts it back at
// once, while its readers and writers are stopped; a restore puts it into a new one.
#pragma once

#include "agent/engine/resources/pseudo_terminal.h"

#include <cstdint>
#include <string>
#include <vector>

namespace godwit::engine::resources::terminal_queues {

struct Queues {
  std::string input;                 // what the slave is to read
  std::vector<std::uint32_t> lines;  // canonical mode: lengths of the complete lines; the rest is still being typed
  std::string output;                // what the master is to read
  image::TtyHalt halt = image::TTY_RUNS;
};

// Errc::busy when there are so many that more may wait in front of the queue. Changes nothing.
void refuse_too_many_lines(int slave);

// Both ends, in packet mode or not. The settings are not as before: put() sets them. `queues` has what was taken out
// also when this throws.
void take(int master, int slave, Queues& queues);

// The keys that make lines of it again, in settings that put() makes for them out of these. Errc::image_corrupt.
std::string typed_again(const Queues& queues, const termios2& settings);

// Into a terminal whose queues are empty, with packet mode off. Lines that could not be taken out stay lines.
void put(int master, int slave, const Queues& queues, const termios2& settings);

}  // namespace godwit::engine::resources::terminal_queues
