// The durable records of the commit protocol: one per migration, epoch and side, written before the action that
// they announce.
//
// One preallocated file of slots. A slot holds two copies of its record, each with a counter and a checksum; a
// write goes to the older copy, so a torn write leaves the one before it in force. The blocks are written with
// zeros when the file is made: later writes need no space (a full disk cannot strike in the pause) and fdatasync
// needs no journal commit of the file system.
//
// When a write or its fdatasync fails the slot's state on disk is unknown: the Error says so, the record in memory
// is read back from the file, and the caller must neither act nor answer. Not thread-safe.
#pragma once

#include "agent/service/phases.h"
#include "common/base/fd.h"

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace godwit::service {

enum class Side : std::uint8_t { source = 1, destination = 2 };

struct Key {
  std::string migration;
  std::uint64_t epoch = 0;
  Side side = Side::source;
  auto operator<=>(const Key&) const = default;
};
std::string to_string(const Key& key);  // "<migration>.<epoch>.<src|dst>": also the name of the copy's cgroup

struct Record {
  Key key;
  std::uint8_t phase = 1;  // SourcePhase or DestinationPhase, by key.side
  bool settled = false;    // the other side knows the end: the slot may be used again
  bool resolved = false;   // let go, or committed, on an operator's word
  bool hold = false;       // destination: should the copy be lost, the source's is held; in `lost`: it may have run
  std::string workload;
  std::string cgroup;  // of the copy, relative to the agent's root
  std::string peer_node;
  std::string peer_address;  // source: where the destination listens
  std::string boot_id;       // of this node, when the record was made
  std::string peer_boot;
  std::string peer_store;                // uuid of the peer's record file: another one's answers prove nothing
  std::array<std::uint8_t, 32> token{};  // source: the secret behind commit token and relay key; destination: SHA-256
                                         // of the commit token
  std::array<std::uint8_t, 32> relay_key{};  // destination
  std::int32_t pid = 0;                      // root task, host PID
  std::uint64_t start_time = 0;              // of the root task, clock ticks since boot

  SourcePhase source() const { return static_cast<SourcePhase>(phase); }
  DestinationPhase destination() const { return static_cast<DestinationPhase>(phase); }
  bool is_final() const { return key.side == Side::source ? final(source()) : final(destination()); }
};

std::string_view phase_name(const Record& record);

class Records {
 public:
  static constexpr std::size_t default_slots = 4096;

  // Makes the file when there is none. Errc::image_corrupt when its head is not ours, or when both copies in a slot
  // are damaged: guessing could double a workload.
  static Records open(const std::string& path, std::size_t slots = default_slots);

  const std::string& store_uuid() const { return uuid_; }

  // The pointer is good until the next call that changes something.
  const Record* find(const Key& key);
  std::vector<Record> all() const;

  // Takes a slot for a migration that may come: afterwards no step can fail for want of space. The phase is
  // `none`, which is not written. Errc::no_space when all slots are held by unfinished migrations.
  void reserve(const Record& record);
  void forget(const Key& key);  // a reservation that never got beyond `none`

  // Moves a record along an arrow, durably. `edited` carries the other fields; its phase is ignored.
  void enter(Record edited, SourcePhase to) { enter(std::move(edited), static_cast<std::uint8_t>(to)); }
  void enter(Record edited, DestinationPhase to) { enter(std::move(edited), static_cast<std::uint8_t>(to)); }

  void settle(const Key& key);  // durably: the peer has acknowledged the end

  // The highest epoch ever seen of a workload, 0: none. The record that holds it is never given up.
  std::uint64_t highest_epoch(const std::string& workload) const;

 private:
  struct Slot {
    std::optional<Record> record;
    std::uint64_t counter = 0;  // of the newest valid copy; 0: never written
    bool suspect = false;       // the last write failed: what is on disk is unknown
  };

  Records() = default;
  void enter(Record edited, std::uint8_t to);
  std::size_t slot_of(const Key& key);  // repairs a suspect slot first
  void load(std::size_t slot);
  void store(std::size_t slot, const Record& record);
  std::size_t free_slot();

  UniqueFd fd_;
  std::string uuid_;
  std::vector<Slot> slots_;
  std::map<Key, std::size_t> index_;
};

}  // namespace godwit::service
