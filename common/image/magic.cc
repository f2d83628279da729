#include "common/image/magic.h"

#include "common/base/error.h"

#include <charconv>

namespace godwit::image {
namespace {

using enum Framing;
constexpr auto none = IdStyle::none;
constexpr auto dec = IdStyle::decimal;
constexpr auto hex = IdStyle::hexadecimal;

constexpr KindInfo kinds[] = {
    {Kind::inventory, "inventory", none, ".img", 0x58313116, Framing::inventory},
    {Kind::pstree, "pstree", none, ".img", 0x50273030, normal},
    {Kind::core, "core", dec, ".img", 0x55053847, normal},
    {Kind::ids, "ids", dec, ".img", 0x54432030, normal},
    {Kind::mm, "mm", dec, ".img", 0x57492820, normal},
    {Kind::fs, "fs", dec, ".img", 0x51403912, normal},
    {Kind::files, "files", none, ".img", 0x56303138, normal},
    {Kind::fdinfo, "fdinfo", dec, ".img", 0x56213732, normal},
    {Kind::pagemap_shmem, "pagemap-shmem", dec, ".img", 0x56084025, normal},
    {Kind::pagemap, "pagemap", dec, ".img", 0x56084025, normal},
    {Kind::pages, "pages", dec, ".img", 0, raw},
    {Kind::seccomp, "seccomp", none, ".img", 0x64413049, normal},
    {Kind::cpuinfo, "cpuinfo", none, ".img", 0x61404013, normal},
    {Kind::timens, "timens", dec, ".img", 0x43114433, normal},
    {Kind::memfd, "memfd", none, ".img", 0x48453499, normal},
    {Kind::pipes_data, "pipes-data", none, ".img", 0x56453709, normal},
    {Kind::fifo_data, "fifo-data", none, ".img", 0x59333054, normal},
    {Kind::sk_queues, "sk-queues", none, ".img", 0x56264026, normal},
    {Kind::tcp_stream, "tcp-stream", hex, ".img", 0x51465506, normal},
    {Kind::remap_fpath, "remap-fpath", none, ".img", 0x59133954, normal},
    {Kind::ghost_file, "ghost-file", hex, ".img", 0x52583605, normal},
    {Kind::tty_info, "tty-info", none, ".img", 0x59453036, normal},
    {Kind::tty_data, "tty-data", none, ".img", 0x59413026, normal},
    {Kind::file_locks, "filelocks", none, ".img", 0x54323616, normal},
    {Kind::stats_dump, "stats-dump", none, "", 0x57093306, service},
    {Kind::stats_restore, "stats-restore", none, "", 0x57093306, service},
};

std::optional<std::uint64_t> parse_id(std::string_view digits, IdStyle style) {
  std::uint64_t id = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), id, style == IdStyle::hexadecimal ? 16 : 10);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return id;
}

std::optional<NamedImage> match(const KindInfo& k, std::string_view name) {
  if (!name.starts_with(k.stem) || !name.ends_with(k.suffix)) return std::nullopt;
  name.remove_prefix(k.stem.size());
  if (name.size() < k.suffix.size()) return std::nullopt;
  name.remove_suffix(k.suffix.size());
  if (k.id == IdStyle::none) return name.empty() ? std::optional(NamedImage{k.kind, 0}) : std::nullopt;
  if (!name.starts_with('-')) return std::nullopt;
  const auto id = parse_id(name.substr(1), k.id);
  if (!id) return std::nullopt;
  return NamedImage{k.kind, *id};
}

}  // namespace

const KindInfo& info(Kind kind) {
  for (const KindInfo& k : kinds)
    if (k.kind == kind) return k;
  fail(Errc::internal, "unknown kind of image {}", static_cast<int>(kind));
}

std::string file_name(Kind kind, std::uint64_t id) {
  const KindInfo& k = info(kind);
  switch (k.id) {
    case IdStyle::none: return fmt::format("{}{}", k.stem, k.suffix);
    case IdStyle::decimal: return fmt::format("{}-{}{}", k.stem, id, k.suffix);
    case IdStyle::hexadecimal: return fmt::format("{}-{:x}{}", k.stem, id, k.suffix);
  }
  fail(Errc::internal, "unknown style of ids");
}

std::optional<NamedImage> parse_file_name(std::string_view name) {
  for (const KindInfo& k : kinds)
    if (const auto found = match(k, name)) return found;
  return std::nullopt;
}

}  // namespace godwit::image
