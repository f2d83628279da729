// Trees that a dump has left stopped: `godwit kill` ends one, `godwit resume` lets it run on. Neither needs a
// living engine in between: the stop is SIGSTOP's, and a note of each process in /run/godwit-engine says which it was
// and how often it had been on a CPU, so that one that has run since is told from the one that was dumped.
#pragma once

#include "agent/engine/commands/options.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include <sys/types.h>

namespace godwit::engine::commands {

// Who stopped it: a process that was stopped before the dump stays so when the others are resumed.
enum class StoppedBy { dump = 1, others };

// What is written down of a stopped process.
struct Stopped {
  std::string generation;
  std::uint64_t switches = 0;  // how often its threads had been taken off a CPU
  bool by_others = false;
};
Stopped parse_stopped_note(const std::string& text);  // Errc::image_corrupt

// The notes of processes that a dump is to leave stopped. Room for them is made while the dump can still fail for the
// lack of it; until it is written, a note fits no process, and what is not written goes with this.
class StopNotes {
 public:
  explicit StopNotes(std::string generation) : generation_(std::move(generation)) {}
  ~StopNotes();
  StopNotes(const StopNotes&) = delete;
  StopNotes& operator=(const StopNotes&) = delete;

  void make_room(pid_t pid);
  // Waits until all threads are in the stop, then writes it down.
  void write(pid_t pid, StoppedBy by);

 private:
  std::string generation_;
  std::map<pid_t, std::filesystem::path> unwritten_;
};

// The notes of a tree before a dump, for whoever puts right what the dump has left when it was killed: those of an
// earlier dump fit again, room for new ones is given back.
class NotesBefore {
 public:
  explicit NotesBefore(pid_t root);
  void put_back() const;

 private:
  void for_each_member(const std::function<void(pid_t pid, std::uint64_t start_time)>& action) const;

  pid_t root_;
  std::map<std::pair<pid_t, std::uint64_t>, Stopped> stopped_;  // by PID and start time
};

// Of a process that is in the stop of an earlier dump again, when a later one has let go of it. Waits for the stop.
void note_again(pid_t pid);

// Whether it is in a dump's stop: a further dump then takes it for a process that runs.
bool left_stopped(pid_t pid);

// Errc::refused when the process is not, or no longer, the one that a dump has left stopped.
int run_kill(const Options& options);
int run_resume(const Options& options);

}  // namespace godwit::engine::commands
