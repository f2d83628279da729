#include "agent/engine/resources/unix_pair.h"

#include "agent/engine/resources/become.h"
#include "agent/engine/resources/unix_queue.h"

namespace godwit::engine::resources {
namespace {

UniqueFd make_socket(const image::UnixSkEntry& entry) {
  return UniqueFd(check(::socket(AF_UNIX, static_cast<int>(entry.type()) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                        "create a unix socket"));
}

Identity shown_by(const image::UnixSkEntry& entry) { return {.euid = entry.shown_uid(), .egid = entry.shown_gid()}; }

// An accepted socket has its listener's name: a listener for this one connection gives it. The true listener takes
// the name later.
UnixPair connect_by_name(const image::UnixSkEntry& client, const image::UnixSkEntry& server) {
  UnixPair pair;
  const UniqueFd listener = make_socket(server);
  bind_unix(listener.get(), server);
  pair.first = make_socket(client);
  bind_unix(pair.first.get(), client);
  const UnixAddress address = unix_address(server.name());
  {
    const Become shown(shown_by(client));
    check(::listen(listener.get(), 1), "listen at {}", printable(server.name()));
    check(::connect(pair.first.get(), address.get(), address.size), "connect to {}", printable(server.name()));
  }
  pair.second =
      UniqueFd(check(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK), "accept a connection"));
  if (server.name().front() != '\0') ::unlink(server.name().c_str());  // gone already when the entry says deleted
  return pair;
}

const std::vector<std::string>& queue_of(const UnixQueues& queues, std::uint32_t id) {
  static const std::vector<std::string> none;
  const auto at = queues.find(id);
  return at == queues.end() ? none : at->second;
}

// The masks are those that shutdown(2) takes, plus one.
void apply_shutdown(int fd, image::SkShutdown mask) {
  if (mask == image::SHUTDOWN_NONE) return;
  check(::shutdown(fd, static_cast<int>(mask) - 1), "shut a unix socket down");
}

}  // namespace

void dump_unix_queue(const FdView& view, std::uint32_t id, image::ImageSet& out) {
  for (const std::string& message : peek_unix_queue(view)) {
    image::SkPacketEntry packet;
    packet.set_id_for(id);
    packet.set_length(static_cast<std::uint32_t>(message.size()));
    out.append(image::Kind::sk_queues, 0, packet, message);
  }
}

UnixQueues read_unix_queues(const image::ImageSet& images) {
  UnixQueues queues;
  const auto length = [](const image::SkPacketEntry& packet) { return packet.length(); };
  for (auto& record : images.records_with_payload<image::SkPacketEntry>(image::Kind::sk_queues, 0, length)) {
    if (record.entry.scm_size() != 0) fail(Errc::unsupported, "descriptors in flight cannot be restored");
    queues[record.entry.id_for()].push_back(std::move(record.payload));
  }
  return queues;
}

bool is_unix_pair(const image::UnixSkEntry& a, const image::UnixSkEntry& b) {
  if (a.peer() != b.ino() || b.peer() != a.ino() || a.type() != b.type()) return false;
  return a.type() != SOCK_DGRAM || (a.name().empty() && b.name().empty());
}

UnixPair make_unix_pair(const image::UnixSkEntry& first, const image::UnixSkEntry& second) {
  if (!second.name().empty()) return connect_by_name(first, second);
  if (!first.name().empty()) {
    UnixPair pair = connect_by_name(second, first);
    std::swap(pair.first, pair.second);
    return pair;
  }
  const Become shown(shown_by(first));
  auto [a, b] = make_socketpair(AF_UNIX, static_cast<int>(first.type()) | SOCK_NONBLOCK);
  return {std::move(a), std::move(b)};
}

void fill_unix_pair(UnixPair& pair, const image::UnixSkEntry& first, const image::UnixSkEntry& second,
                    const UnixQueues& queues) {
  send_messages(pair.second.get(), queue_of(queues, first.id()));
  send_messages(pair.first.get(), queue_of(queues, second.id()));
  // After the queues: nothing can be sent to an end that is shut.
  apply_shutdown(pair.first.get(), first.shutdown());
  apply_shutdown(pair.second.get(), second.shutdown());
}

UniqueFd make_unix_orphan(const image::UnixSkEntry& entry, const UnixQueues& queues) {
  image::UnixSkEntry gone;
  gone.set_type(entry.type());
  UnixPair pair = make_unix_pair(entry, gone);
  send_messages(pair.second.get(), queue_of(queues, entry.id()));
  // Closing an end with something unread resets the other.
  if (entry.reset()) send_messages(pair.first.get(), {"x"});
  pair.second.reset();
  return std::move(pair.first);
}

void fill_unix_datagrams(const image::UnixSkEntry& entry, const UnixQueues& queues) {
  const std::vector<std::string>& messages = queue_of(queues, entry.id());
  if (messages.empty()) return;
  if (entry.name().empty()) fail(Errc::image_corrupt, "datagrams for unix socket {}, which has no name", entry.ino());
  const UniqueFd sender = make_socket(entry);
  const UnixAddress address = unix_address(entry.name());
  check(::connect(sender.get(), address.get(), address.size), "connect to {}", printable(entry.name()));
  send_messages(sender.get(), messages);
}

}  // namespace godwit::engine::resources
