#include "common/pagewire/criu.h"

#include "common/base/error.h"

#include <cstring>
#include <limits>
#include <optional>

namespace godwit::pagewire::criu {
namespace {

// Replaced by add with flags; still understood by every server.
constexpr std::uint16_t legacy_add = 1, legacy_hole = 2;

// CRIU holds the PID in an int; a pid_t is never larger.
constexpr std::uint64_t largest_task = std::numeric_limits<std::int32_t>::max();

template <class T>
T load(std::span<const std::byte> bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

template <class T>
void store(std::span<std::byte> bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

// Old releases numbered the kinds of objects by an enum that changed between them.
std::optional<ObjectType> object_type_of(std::uint8_t type) {
  switch (type) {
    case 1:
    case 10:
    case 11:
    case 16:
    case 17: return ObjectType::task;
    case 2:
    case 27:
    case 28:
    case 29:
    case 32:
    case 33:
    case 34: return ObjectType::shmem;
    default: return std::nullopt;
  }
}

ObjectId object_of(std::uint64_t id) {
  const auto type = object_type_of(static_cast<std::uint8_t>(id & 0xff));
  const std::uint64_t number = id >> 8;
  if (!type) fail(Errc::protocol, "object {:#x} is neither a task nor shared memory", id);
  if (*type == ObjectType::task && (number == 0 || number > largest_task))
    fail(Errc::protocol, "object {:#x} names task {}, which cannot be", id, number);
  return object_id(*type, number);
}

void check_run(const Header& h) {
  constexpr std::uint16_t known = run_parent | run_lazy | run_present;
  if (h.flags == 0 || (h.flags & ~known) != 0 || ((h.flags & run_parent) && (h.flags & run_present)))
    fail(Errc::protocol, "a run with flags {:#x}", h.flags);
  if (h.address % page_size != 0) fail(Errc::protocol, "a run at {:#x}, which is no page", h.address);
  // The end has to be a number too, and what is stored has to be a file.
  if (h.pages == 0 || h.pages > (std::numeric_limits<std::uint64_t>::max() - h.address) / page_size ||
      h.pages > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / page_size)
    fail(Errc::protocol, "a run of {} pages at {:#x}", h.pages, h.address);
}

}  // namespace

HeaderSize header_size_of(std::span<const std::byte, smallest_header> first) {
  return load<std::uint64_t>(first, 16) == 0 ? HeaderSize::since_4_2 : HeaderSize::until_4_1;
}

Header decode(HeaderSize size, std::span<const std::byte> bytes) {
  if (bytes.size() < bytes_in(size)) fail(Errc::internal, "{} bytes for a header of {}", bytes.size(), bytes_in(size));
  const auto word = load<std::uint32_t>(bytes, 0);
  const bool short_form = size == HeaderSize::until_4_1;
  Header h{.flags = static_cast<std::uint16_t>(word >> 16),
           .pages = short_form ? load<std::uint32_t>(bytes, 4) : load<std::uint64_t>(bytes, 8),
           .address = load<std::uint64_t>(bytes, short_form ? 8 : 16)};
  const auto object = load<std::uint64_t>(bytes, short_form ? 16 : 24);
  const auto command = static_cast<std::uint16_t>(word & 0xffff);
  switch (command) {
    case legacy_add:
    case legacy_hole:
      h.command = Command::add;
      h.flags = command == legacy_add ? run_present : run_parent;
      break;
    case static_cast<std::uint16_t>(Command::add): h.command = Command::add; break;
    case static_cast<std::uint16_t>(Command::open):
    case static_cast<std::uint16_t>(Command::open2):
    case static_cast<std::uint16_t>(Command::parent):
      // Nothing but the object means anything here.
      return {.command = static_cast<Command>(command), .object = object_of(object)};
    case static_cast<std::uint16_t>(Command::close):
    case static_cast<std::uint16_t>(Command::force_close): return {.command = static_cast<Command>(command)};
    case static_cast<std::uint16_t>(Command::get): h.command = Command::get; return h;
    default: fail(Errc::protocol, "unknown command {:#x}", command);
  }
  check_run(h);
  h.object = object_of(object);
  return h;
}

EncodedHeader encode(HeaderSize size, const Header& h) {
  EncodedHeader out{.length = bytes_in(size)};
  const std::span<std::byte> to(out.bytes);
  store(to, 0, static_cast<std::uint32_t>(h.command) | static_cast<std::uint32_t>(h.flags) << 16);
  if (size == HeaderSize::until_4_1) {
    if (h.pages > std::numeric_limits<std::uint32_t>::max())
      fail(Errc::invalid_argument, "a run of {} pages does not fit into a header of 24 bytes", h.pages);
    store(to, 4, static_cast<std::uint32_t>(h.pages));
    store(to, 8, h.address);
    store(to, 16, h.object);
  } else {
    store(to, 8, h.pages);
    store(to, 16, h.address);
    store(to, 24, h.object);
  }
  return out;
}

HeaderSize parse_header_size(std::string_view text) {
  if (text == "24") return HeaderSize::until_4_1;
  if (text == "32") return HeaderSize::since_4_2;
  fail(Errc::invalid_argument, "--page-server-header is 24 (CRIU up to 4.1) or 32 (since 4.2), not '{}'", text);
}

}  // namespace godwit::pagewire::criu
