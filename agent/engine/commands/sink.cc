#include "agent/engine/commands/sink.h"

#include "agent/engine/memory/criu_sink.h"
#include "common/image/generation.h"

namespace godwit::engine::commands {

std::optional<CriuClient> reach_page_server(const Options& options, UniqueFd socket) {
  if (!options.page_server.use) return std::nullopt;
  if (!socket) fail(Errc::protocol, "a dump to a page server without its socket");
  std::unique_ptr<pagewire::Ring> ring;
  if (options.page_server.tls)
    ring = std::make_unique<pagewire::Ring>(pagewire::receive_ring(socket.get(), ClientLimits{}.stall));
  return CriuClient(std::move(socket),
                    pagewire::criu::HeaderSize{static_cast<std::uint8_t>(options.page_server.header)}, std::move(ring));
}

pagewire::ObjectId tag_object(std::string_view generation) {
  return pagewire::object_id(pagewire::ObjectType::task, image::tag_of(generation));
}

std::unique_ptr<DumpSink> make_sink(std::optional<CriuClient> server, const Places& places, std::string_view generation,
                                    std::string_view parent, Superseded superseded) {
  const int images = places.images.get();
  if (!server) return std::make_unique<DirectorySink>(images, superseded);
  std::vector<pagewire::ObjectId> tags{tag_object(generation)};
  if (parent.empty()) return std::make_unique<CriuStream>(std::move(*server), images, std::move(tags));
  tags.push_back(pagewire::object_id(pagewire::ObjectType::task, image::parent_tag_of(parent)));
  return std::make_unique<CriuDifference>(std::move(*server), images, std::move(tags));
}

}  // namespace godwit::engine::commands
