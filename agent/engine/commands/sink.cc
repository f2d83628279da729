#include "agent/engine/commands/sink.h"

#include "agent/engine/memory/directory_sink.h"

namespace godwit::engine::commands {

std::unique_ptr<DumpSink> make_sink(const Options& options, const Places& places) {
  if (options.page_server.use)
    throw Error(Errc::unsupported, "--page-server: this build streams no pages to a page server",
                "dump into a directory");
  return std::make_unique<DirectorySink>(places.images.get());
}

}  // namespace godwit::engine::commands
