// What the engine and the helper of a restore say to each other, as text: a request is one byte of kind and its words,
// an answer is 'O' and what was asked for, or 'E' and an error.
//
// Pure functions. Errors: Errc::protocol, for what the other side cannot have said.
#pragma once

#include "agent/engine/memory/restored_segments.h"
#include "common/base/error.h"
#include "common/image/image_set.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>

#include <sys/types.h>

namespace godwit::engine::helper {

struct Spawn {
  pid_t pid = 0;
  std::uint64_t scratch = 0;
  bool own_session = true;
  bool operator==(const Spawn&) const = default;
};
struct Reap {
  pid_t pid = 0;
  bool operator==(const Reap&) const = default;
};
struct MakeSegment {
  SegmentSpec spec;
  bool operator==(const MakeSegment&) const = default;
};
struct MakeTerminal {
  int terminal = 0;  // its number in /dev/pts
  bool operator==(const MakeTerminal&) const = default;
};
struct ReplaceTerminal {  // by the one that comes as a descriptor
  int terminal = 0;       // of the images
  bool operator==(const ReplaceTerminal&) const = default;
};
struct Adopt {
  std::uint32_t id = 0;  // in files.img
  pid_t pid = 0;
  int number = 0;  // of the descriptor in the process's table
  bool operator==(const Adopt&) const = default;
};
struct MakeTimeNamespace {
  std::uint64_t monotonic_ns = 0, boottime_ns = 0;
  bool operator==(const MakeTimeNamespace&) const = default;
};
struct OpenFiles {                        // the images come as a descriptor
  std::map<std::uint32_t, int> segments;  // by shmid, in the helper's table
  bool operator==(const OpenFiles&) const = default;
};
struct Place {
  std::uint32_t files_id = 0;
  pid_t pid = 0;
  bool operator==(const Place&) const = default;
};
using Request =
    std::variant<Spawn, Reap, MakeSegment, MakeTerminal, ReplaceTerminal, Adopt, MakeTimeNamespace, OpenFiles, Place>;

std::string words_of(const Request& request);
Request parse_request(std::string_view words);

std::string answer(std::string_view text);
std::string answer(const Error& error);
std::string parse_answer(std::string_view words);  // throws the error that it says
int parse_number(std::string_view answer);         // a PID or a descriptor

// All files of a set, names and bytes back to back.
std::string packed(const image::ImageSet& images);
image::ImageSet unpacked(std::string_view bytes);

}  // namespace godwit::engine::helper
