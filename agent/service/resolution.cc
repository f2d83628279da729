#include "agent/service/resolution.h"

#include "common/base/durable_file.h"
#include "common/base/log.h"
#include "common/base/wall_clock.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <filesystem>

namespace godwit::service {
namespace {

constexpr std::size_t longest_name = 64;

}  // namespace

void check_request(const api::Resolve& request) {
  const auto fine = [](char c) { return c > ' ' && c < 0x7f; };
  const std::string& by = request.by();
  if (by.empty() || by.size() > longest_name || !std::ranges::all_of(by, fine))
    fail(Errc::invalid_argument, "a migration is resolved by somebody with a name of 1 to {} letters", longest_name);
  if (request.destination_is_off() + request.source_is_off() + request.go_on() > 1)
    fail(Errc::invalid_argument, "that a node is off, or that the copy at the source goes on: one is decided");
}

void check_off(const KnownPeer& peer, const std::string& boot, const std::string& store, const std::string& hint) {
  const bool same_records = peer.store.empty() || store == peer.store;
  if (same_records) throw Error(Errc::refused, fmt::format("node '{}' is not off: its agent answers", peer.node), hint);
  if (boot.empty() || boot == peer.boot)
    throw Error(
        Errc::refused,
        fmt::format("the records of node '{}' were replaced, and it has not been rebooted: the workload may run "
                    "there",
                    peer.node),
        "reboot that node, then resolve");
}

bool known_to_be_gone(const KnownPeer& peer, const api::Resolve& request, const std::string& hint) {
  bool registered = false;
  for (const api::Registration& r : request.registered()) {
    if (r.node() != peer.node) continue;
    check_off(peer, r.boot_id(), r.store_uuid(), hint);
    registered = true;
  }
  return registered;
}

void write_down(const std::string& state, const Key& key, const std::string& workload, const std::string& by,
                const std::string& statement) {
  const std::string path = state + "/resolutions";
  Doing doing("writing {}", path);
  const std::string before = std::filesystem::exists(path) ? read_file(path) : "";
  replace_file_durably(path, before + fmt::format("{:%FT%TZ} {} of '{}' let go here by {}, who {}\n",
                                                  fmt::gmtime(wall_now()), to_string(key), workload, by, statement));
}

}  // namespace godwit::service
