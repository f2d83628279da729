// Connected unix sockets: both ends made at once, with what was queued in them; and the remains of a connection
// whose other end is closed.
#pragma once

#include "agent/engine/resources/fd_view.h"
#include "agent/engine/resources/unix_address.h"
#include "common/image/image_set.h"

#include <map>
#include <string>
#include <vector>

namespace godwit::engine::resources {

using UnixQueues = std::map<std::uint32_t, std::vector<std::string>>;  // by file id of the receiver

void dump_unix_queue(const FdView& view, std::uint32_t id, image::ImageSet& out);
UnixQueues read_unix_queues(const image::ImageSet& images);

struct UnixPair {
  UniqueFd first;
  UniqueFd second;
};

// Whether two sockets that name each other as peers are made as a pair: always with connections; datagram sockets only
// when they have no names to connect by.
bool is_unix_pair(const image::UnixSkEntry& a, const image::UnixSkEntry& b);

UnixPair make_unix_pair(const image::UnixSkEntry& first, const image::UnixSkEntry& second);
void fill_unix_pair(UnixPair& pair, const image::UnixSkEntry& first, const image::UnixSkEntry& second,
                    const UnixQueues& queues);

// A connection whose other end was closed: what was queued can be read, then the end is found (or a reset).
UniqueFd make_unix_orphan(const image::UnixSkEntry& entry, const UnixQueues& queues);

// Datagrams that wait in a bound socket.
void fill_unix_datagrams(const image::UnixSkEntry& entry, const UnixQueues& queues);

}  // namespace godwit::engine::resources
