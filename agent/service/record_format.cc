#include "agent/service/record_format.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace godwit::service {
namespace {

struct RawCopy {
  std::uint64_t checksum;  // XXH3-64 of everything behind it
  std::uint64_t counter;
  std::uint8_t side, phase, settled, flags;
  std::int32_t pid;
  std::uint64_t epoch;
  std::uint64_t start_time;
  char migration[64], workload[64], cgroup[80], peer_node[48];
  union {
    char peer_address[64];       // source
    std::uint8_t relay_key[32];  // destination
  };
  char boot_id[40], peer_boot[40], peer_store[40];
  std::uint8_t token[32];
};
static_assert(sizeof(RawCopy) == copy_size);
constexpr std::uint8_t flag_resolved = 1, flag_hold = 2;

struct RawHead {
  std::uint64_t checksum;
  char magic[8];
  std::uint32_t version, slots;
  char uuid[40];
};
constexpr char head_magic[9] = "GDWITREC";
constexpr std::uint32_t head_version = 2;

template <class Raw>
std::uint64_t checksum(const Raw& raw) {
  const auto* from = reinterpret_cast<const char*>(&raw) + sizeof raw.checksum;
  return XXH3_64bits(from, sizeof raw - sizeof raw.checksum);
}

template <std::size_t N>
void put(char (&into)[N], const std::string& text, std::string_view what) {
  if (text.size() >= N) fail(Errc::invalid_argument, "{} is longer than {} bytes: {}", what, N - 1, text);
  std::copy(text.begin(), text.end(), into);
}

template <std::size_t N>
std::string get(const char (&from)[N]) {
  return {from, ::strnlen(from, N)};
}

}  // namespace

bool is_blank(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

CopyBytes encode_copy(const StoredCopy& copy) {
  const Record& r = copy.record;
  RawCopy raw{};
  raw.counter = copy.counter;
  raw.side = static_cast<std::uint8_t>(r.key.side);
  raw.phase = r.phase;
  raw.settled = r.settled;
  if (r.resolved) raw.flags |= flag_resolved;
  if (r.hold) raw.flags |= flag_hold;
  raw.pid = r.pid;
  raw.epoch = r.key.epoch;
  raw.start_time = r.start_time;
  put(raw.migration, r.key.migration, "the migration's id");
  put(raw.workload, r.workload, "the workload's name");
  put(raw.cgroup, r.cgroup, "the cgroup's path");
  put(raw.peer_node, r.peer_node, "the peer's name");
  if (r.key.side == Side::source)
    put(raw.peer_address, r.peer_address, "the peer's address");
  else
    std::ranges::copy(r.relay_key, raw.relay_key);
  put(raw.boot_id, r.boot_id, "the boot id");
  put(raw.peer_boot, r.peer_boot, "the peer's boot id");
  put(raw.peer_store, r.peer_store, "the peer's store");
  std::ranges::copy(r.token, raw.token);
  raw.checksum = checksum(raw);
  CopyBytes bytes;
  std::memcpy(bytes.data(), &raw, sizeof raw);
  return bytes;
}

std::optional<StoredCopy> decode_copy(std::span<const std::byte, copy_size> bytes) {
  RawCopy raw;
  std::memcpy(&raw, bytes.data(), sizeof raw);
  if (raw.counter == 0 || raw.checksum != checksum(raw)) return std::nullopt;
  const auto side = static_cast<Side>(raw.side);
  if (side != Side::source && side != Side::destination) return std::nullopt;
  StoredCopy copy{.counter = raw.counter, .record = {}};
  Record& r = copy.record;
  r.key = {.migration = get(raw.migration), .epoch = raw.epoch, .side = side};
  r.phase = raw.phase;
  r.settled = raw.settled != 0;
  r.resolved = (raw.flags & flag_resolved) != 0;
  r.hold = (raw.flags & flag_hold) != 0;
  r.workload = get(raw.workload);
  r.cgroup = get(raw.cgroup);
  r.peer_node = get(raw.peer_node);
  if (side == Side::source)
    r.peer_address = get(raw.peer_address);
  else
    std::ranges::copy(raw.relay_key, r.relay_key.begin());
  r.boot_id = get(raw.boot_id);
  r.peer_boot = get(raw.peer_boot);
  r.peer_store = get(raw.peer_store);
  std::ranges::copy(raw.token, r.token.begin());
  r.pid = raw.pid;
  r.start_time = raw.start_time;
  return copy;
}

std::array<std::byte, head_size> encode_head(const std::string& uuid, std::size_t slots) {
  RawHead raw{};
  std::copy_n(head_magic, sizeof raw.magic, raw.magic);
  raw.version = head_version;
  raw.slots = static_cast<std::uint32_t>(slots);
  put(raw.uuid, uuid, "the store's uuid");
  raw.checksum = checksum(raw);
  std::array<std::byte, head_size> bytes{};
  std::memcpy(bytes.data(), &raw, sizeof raw);
  return bytes;
}

Head decode_head(std::span<const std::byte, head_size> bytes) {
  RawHead raw;
  std::memcpy(&raw, bytes.data(), sizeof raw);
  if (std::memcmp(raw.magic, head_magic, sizeof raw.magic) != 0) fail(Errc::image_corrupt, "this is no record file");
  if (raw.checksum != checksum(raw)) fail(Errc::image_corrupt, "the head of the record file is damaged");
  if (raw.version != head_version) {
    fail(Errc::image_corrupt, "the record file has version {}, this agent reads {}", raw.version, head_version);
  }
  return {.uuid = get(raw.uuid), .slots = raw.slots};
}

}  // namespace godwit::service
