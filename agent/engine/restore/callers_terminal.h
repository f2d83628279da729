// The terminal of whoever asks for a restore, which becomes that of a shell job: it gets the settings of the one that
// the job had, and the job's process group comes to its foreground.
//
// Its own process group has to be in the foreground for that, or the terminal is left as it is until somebody brings it
// there (`fg`). Until keep() all is put back by the destructor. One thread.
#pragma once

#include "common/image/tty.pb.h"

#include <optional>

#include <sys/types.h>

namespace godwit::engine {

class CallersTerminal {
 public:
  explicit CallersTerminal(int fd);  // borrowed
  ~CallersTerminal();
  CallersTerminal(const CallersTerminal&) = delete;
  CallersTerminal& operator=(const CallersTerminal&) = delete;

  static bool is_terminal(int fd);
  static bool controls_us(int fd);  // it is the terminal of our session

  int fd() const { return fd_; }
  // Settings, size, locks of settings, exclusive use.
  void set(const image::TtyInfoEntry& info);
  // `group` comes to the foreground, if ours is there.
  void hand_over(pid_t group);
  // Ours comes back, if we have handed it over. Returns which group was there; 0: it was not ours to take.
  pid_t take_back();
  void keep() { kept_ = true; }

 private:
  bool is_ours() const;
  void apply(const image::TtyInfoEntry& info);
  void put_back();

  int fd_;
  std::optional<image::TtyInfoEntry> wanted_;  // not yet applied
  std::optional<image::TtyInfoEntry> before_;  // what has been changed
  bool was_blocked_;                           // SIGTTOU, before us
  bool handed_over_ = false;
  bool kept_ = false;
};

}  // namespace godwit::engine
