// Where the pages of a dump go, as the command line says.
#pragma once

#include "agent/engine/commands/places.h"
#include "agent/engine/memory/criu_client.h"
#include "agent/engine/memory/directory_sink.h"

#include <memory>
#include <optional>
#include <string_view>

namespace godwit::engine::commands {

// The page server at the other end of this socket, or with TLS the relay to it; nothing when the pages go into the
// images directory.
std::optional<CriuClient> reach_page_server(const Options& options, UniqueFd socket);

// By which a page server's images say which dump they are of.
pagewire::ObjectId tag_object(std::string_view generation);

// State images go into the images directory in any case. `parent`: the generation that a difference is measured
// against; empty: it is whole. `places` outlives the sink.
std::unique_ptr<DumpSink> make_sink(std::optional<CriuClient> server, const Places& places, std::string_view generation,
                                    std::string_view parent, Superseded superseded);

}  // namespace godwit::engine::commands
