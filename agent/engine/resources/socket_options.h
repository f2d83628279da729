// Options of sockets: those that CRIU has fields for, and a table of others that are kept as getsockopt gave them.
// What a fresh socket has already is left alone on restore.
#pragma once

#include "agent/engine/resources/fd_kind.h"
#include "common/image/socket.pb.h"

#include <optional>

namespace godwit::engine::resources {

enum class OptionSet {
  required = 1,  // what the image format insists on: enough for a socket that is dead
  all,
};
image::SkOptsEntry dump_socket_options(const FdView& view, OptionSet set);

// Before bind: what decides whether and where binding works.
void restore_options_before_bind(int fd, const image::SkOptsEntry& options);
// After bind, listen or connect: all others, and SO_REUSEADDR as it was. An option that this kernel or host does not
// take is logged by name.
void restore_socket_options(int fd, const image::SkOptsEntry& options);

// The socket belongs to another network namespace than its task, or has a filter that cannot be read.
std::optional<Refusal> refuse_socket(const FdView& view, SurveyContext& context);

// getsockopt and setsockopt of an int, checked.
int get_option(int fd, int level, int name);
void set_option(int fd, int level, int name, int value);

}  // namespace godwit::engine::resources
