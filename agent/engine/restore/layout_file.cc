#include "agent/engine/restore/layout_file.h"

#include "common/base/error.h"

#include <charconv>

namespace godwit::engine {
namespace {

constexpr pid_t highest_pid = 1 << 22;

pid_t pid_in(std::string_view name, std::string_view text) {
  pid_t pid = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (ec != std::errc{} || end != text.data() + text.size() || pid <= 0 || pid > highest_pid)
    fail(Errc::protocol, "a layout file '{}', which names no process", name);
  return pid;
}

}  // namespace

LayoutFile layout_file_of(std::string_view name) {
  using Kind = LayoutFile::Kind;
  if (name == "pstree.img") return {.kind = Kind::tree};
  for (const auto& [prefix, kind] :
       {std::pair<std::string_view, Kind>{"mm-", Kind::layout}, {"reset-", Kind::reset}, {"gone-", Kind::gone}})
    if (name.starts_with(prefix)) return {.kind = kind, .pid = pid_in(name, name.substr(prefix.size()))};
  return {};
}

}  // namespace godwit::engine
