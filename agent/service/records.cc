#include "agent/service/records.h"

#include "agent/service/record_format.h"
#include "common/base/durable_file.h"
#include "common/base/fault.h"

#include <algorithm>

#include <sys/stat.h>

namespace godwit::service {
namespace {

constexpr std::size_t most_slots = 1u << 20;

off_t place_of(std::size_t slot, std::uint64_t counter) {
  return static_cast<off_t>(head_size + slot * slot_size + (counter % 2) * copy_size);
}

// Real zeros instead of fallocate: blocks that were only reserved need a metadata commit when first written.
void make(const std::string& path, std::size_t slots) {
  std::string uuid = read_file("/proc/sys/kernel/random/uuid");
  uuid.erase(uuid.find_last_not_of('\n') + 1);
  const auto head = encode_head(uuid, slots);
  std::string content(reinterpret_cast<const char*>(head.data()), head.size());
  content.append(slots * slot_size, '\0');
  replace_file_durably(path, content);
}

}  // namespace

std::string to_string(const Key& key) {
  return fmt::format("{}.{}.{}", key.migration, key.epoch, key.side == Side::source ? "src" : "dst");
}

std::string_view phase_name(const Record& r) {
  return r.key.side == Side::source ? name(r.source()) : name(r.destination());
}

Records Records::open(const std::string& path, std::size_t slots) {
  Doing d("opening the records in {}", path);
  if (::access(path.c_str(), F_OK) != 0) make(path, slots);
  Records records;
  records.fd_ = open_file(path, O_RDWR);
  std::array<std::byte, head_size> head_bytes;
  pread_exact(records.fd_.get(), head_bytes, 0);
  const Head head = decode_head(head_bytes);
  struct stat status{};
  check(::fstat(records.fd_.get(), &status), "stat");
  if (head.slots > most_slots || static_cast<std::size_t>(status.st_size) < head_size + head.slots * slot_size) {
    fail(Errc::image_corrupt, "{} slots do not fit into {} bytes", head.slots, status.st_size);
  }
  records.uuid_ = head.uuid;
  records.slots_.resize(head.slots);
  for (std::size_t i = 0; i < head.slots; ++i) records.load(i);
  return records;
}

void Records::load(std::size_t i) {
  std::array<std::byte, slot_size> bytes;
  pread_exact(fd_.get(), bytes, static_cast<off_t>(head_size + i * slot_size));
  const std::span<const std::byte, slot_size> both(bytes);
  const auto first = both.first<copy_size>(), second = both.last<copy_size>();
  const auto a = decode_copy(first), b = decode_copy(second);
  // One damaged beside one that was never written is a first write that was torn: it was never acknowledged.
  if (!a && !b && !is_blank(first) && !is_blank(second)) fail(Errc::image_corrupt, "slot {} is damaged", i);
  Slot& slot = slots_[i];
  if (slot.record) index_.erase(slot.record->key);
  slot = {};
  if (!a && !b) return;
  const StoredCopy& newest = !b || (a && a->counter > b->counter) ? *a : *b;
  slot = {.record = newest.record, .counter = newest.counter};
  index_[slot.record->key] = i;
}

void Records::store(std::size_t i, const Record& record) {
  Slot& slot = slots_[i];
  const StoredCopy copy{.counter = slot.counter + 1, .record = record};
  const CopyBytes bytes = encode_copy(copy);
  const std::string which = fmt::format("{}.{}", record.key.side == Side::source ? "source" : "destination",
                                        record.settled ? "settled" : phase_name(record));
  try {
    fault::point("agent.recording." + which);
    pwrite_all(fd_.get(), bytes, place_of(i, copy.counter));
    fault::point("agent.records.sync");
    fault::point("agent.record." + which);
    check(::fdatasync(fd_.get()), "sync the records");
  } catch (const Error& e) {
    // The page cache may now show what the disk does not hold: nothing may be built on it before it is rewritten.
    slot.suspect = true;
    throw Error(e.errc(), fmt::format("recording {} failed: {}", to_string(record.key), e.message()));
  }
  if (slot.record) index_.erase(slot.record->key);
  slot = {.record = record, .counter = copy.counter};
  index_[record.key] = i;
}

std::size_t Records::slot_of(const Key& key) {
  const auto found = index_.find(key);
  if (found == index_.end()) fail(Errc::not_found, "there is no record of {}", to_string(key));
  const std::size_t i = found->second;
  if (slots_[i].suspect) {
    const Record before = *slots_[i].record;
    load(i);
    const std::optional<Record> found = slots_[i].record;
    if (found && found->key != before.key) index_.erase(found->key);  // the slot's last user: nothing was written since
    const Record as_read = found && found->key == before.key ? *found : before;
    slots_[i].record = as_read;
    index_[as_read.key] = i;
    slots_[i].suspect = true;
    if (slots_[i].counter > 0) store(i, as_read);
    slots_[i].suspect = false;
  }
  return i;
}

const Record* Records::find(const Key& key) {
  if (!index_.contains(key)) return nullptr;
  return &*slots_[slot_of(key)].record;
}

std::vector<Record> Records::all() const {
  std::vector<Record> records;
  for (const auto& [key, i] : index_) records.push_back(*slots_[i].record);
  return records;
}

void Records::reserve(const Record& record) {
  if (index_.contains(record.key)) fail(Errc::already_exists, "{} is already recorded", to_string(record.key));
  encode_copy({.counter = 1, .record = record});  // what is too long fails here and not in the pause
  const std::size_t i = free_slot();
  Slot& slot = slots_[i];
  if (slot.record) index_.erase(slot.record->key);
  slot.record = record;
  slot.record->phase = 1;
  index_[record.key] = i;
}

void Records::forget(const Key& key) {
  const auto found = index_.find(key);
  if (found == index_.end()) return;
  Slot& slot = slots_[found->second];
  if (slot.record->phase != 1) return;
  index_.erase(found);
  slot.record.reset();  // the counter stays: what the slot held before is superseded, and was only reusable
}

void Records::enter(Record edited, std::uint8_t to) {
  const std::size_t i = slot_of(edited.key);
  const Record& now = *slots_[i].record;
  const bool fine = edited.key.side == Side::source ? allowed(now.source(), static_cast<SourcePhase>(to))
                                                    : allowed(now.destination(), static_cast<DestinationPhase>(to));
  const std::string from(phase_name(now));
  edited.phase = to;
  if (!fine) fail(Errc::internal, "{}: no way from {} to {}", to_string(edited.key), from, phase_name(edited));
  store(i, edited);
}

void Records::settle(const Key& key) {
  const std::size_t i = slot_of(key);
  Record record = *slots_[i].record;
  if (record.settled) return;
  if (!record.is_final()) fail(Errc::internal, "{} has not ended", to_string(key));
  record.settled = true;
  store(i, record);
}

std::uint64_t Records::highest_epoch(const std::string& workload) const {
  std::uint64_t highest = 0;
  for (const Slot& slot : slots_) {
    if (slot.record && slot.record->workload == workload) highest = std::max(highest, slot.record->key.epoch);
  }
  return highest;
}

// A slot that was never used; else that of a settled record whose workload has a higher or equal epoch on disk.
std::size_t Records::free_slot() {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].record) return i;
  }
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Record& old = *slots_[i].record;
    if (!old.settled) continue;
    for (std::size_t j = 0; j < slots_.size(); ++j) {
      const Record& other = *slots_[j].record;
      const bool on_disk = slots_[j].counter > 0 && other.phase != 1;
      if (i != j && on_disk && other.workload == old.workload && other.key.epoch >= old.key.epoch) return i;
    }
  }
  fail(Errc::no_space, "all {} records are held by migrations that have not ended", slots_.size());
}

}  // namespace godwit::service
