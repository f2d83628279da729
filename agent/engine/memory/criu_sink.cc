#include "agent/engine/memory/criu_sink.h"

#include "agent/engine/memory/task_memory.h"

namespace godwit::engine {

std::uint64_t CriuSink::file(std::string_view name, std::string_view content) {
  if (!name.starts_with(layout_prefix)) images_.put_file(std::string(name), std::string(content));
  return next();
}

void CriuSink::save(const HeldPages& held, Storage storage) {
  finish_pages(held);
  for (const pagewire::ObjectId tag : tags_) server_.open(tag);
  server_.close();
  images_.save(directory_, storage);
}

}  // namespace godwit::engine
