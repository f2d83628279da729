#include "agent/engine/resources/descriptor_limit.h"
#include "agent/engine/resources/fd_kinds.h"
#include "agent/engine/resources/fd_table.h"
#include "agent/engine/resources/file_entry.h"
#include "agent/engine/resources/fown.h"
#include "agent/engine/resources/memfd.h"
#include "common/image/fs.pb.h"
#include "common/image/pstree.pb.h"

#include <algorithm>
#include <climits>
#include <set>

#include <netinet/tcp.h>
#include <sys/stat.h>

namespace godwit::engine::resources {
namespace {

using Table = std::vector<image::FdinfoEntry>;
using Tables = std::map<std::uint32_t, Table>;         // by files id
using Offsets = std::map<std::uint32_t, std::size_t>;  // of the records in files.img, by file id

constexpr int settable_flags = O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK;

Table read_table(const image::ImageSet& images, std::uint32_t files_id) {
  Table table = images.records<image::FdinfoEntry>(image::Kind::fdinfo, files_id);
  for (const image::FdinfoEntry& descriptor : table) {
    if (descriptor.fd() > INT_MAX / 4)
      fail(Errc::image_corrupt, "{}: descriptor number {}", image::file_name(image::Kind::fdinfo, files_id),
           descriptor.fd());
  }
  std::ranges::sort(table, {}, &image::FdinfoEntry::fd);
  return table;
}

const image::FileEntry& file_of(const RestoreContext& context, std::uint32_t id) {
  const auto at = context.files.find(id);
  if (at == context.files.end()) fail(Errc::image_corrupt, "files.img has no file {}", id);
  return at->second;
}

// The entry with flags and owner: a fifo's is that of its path.
const image::FileEntry& described_by(const RestoreContext& context, const image::FileEntry& entry) {
  return entry.type() == image::FD_FIFO ? file_of(context, entry.fifo().regf_id()) : entry;
}

// A connected pair is made through its name, where it has one, before the listener takes the name.
int stage_of(const image::FileEntry& entry) {
  return entry.type() == image::FD_UNIXSK && entry.usk().state() == TCP_LISTEN ? 2 : 1;
}

// Opens every file of the tables, each once, above all numbers that they use.
std::map<std::uint32_t, UniqueFd> open_files(const Tables& tables, int floor, const Offsets& offsets,
                                             RestoreContext& context) {
  std::set<std::pair<int, std::uint32_t>> order;
  for (const auto& [files_id, table] : tables)
    for (const image::FdinfoEntry& descriptor : table)
      order.emplace(stage_of(file_of(context, descriptor.id())), descriptor.id());
  std::map<std::uint32_t, UniqueFd> open;
  for (const auto& [stage, id] : order) {
    const image::FileEntry& entry = file_of(context, id);
    const Doing doing("files.img at offset {}: file {} ({})", offsets.at(id), id, type_name(entry.type()));
    flags_of(described_by(context, entry));  // the member that the type names is there
    const UniqueFd fd = kind_of(entry.type()).restore(entry, context);
    open[id] = UniqueFd(check(::fcntl(fd.get(), F_DUPFD_CLOEXEC, floor), "move a descriptor above {}", floor));
  }
  // Their numbers are about to be used.
  context.pipes.clear();
  context.parked.clear();
  context.ghosts.clear();
  return open;
}

void place_all(const Table& table, const std::map<std::uint32_t, UniqueFd>& open) {
  for (const image::FdinfoEntry& descriptor : table) {
    const int number = static_cast<int>(descriptor.fd());
    check(::dup3(open.at(descriptor.id()).get(), number, descriptor.flags() & FD_CLOEXEC ? O_CLOEXEC : 0),
          "make descriptor {}", number);
  }
}

void restore_flags(int number, std::uint32_t recorded) {
  const int wanted = static_cast<int>(recorded) & settable_flags;
  const int present = check(::fcntl(number, F_GETFL), "read the flags of descriptor {}", number);
  if ((present & settable_flags) == wanted) return;
  check(::fcntl(number, F_SETFL, wanted), "set the flags of descriptor {} to {:o}", number, wanted);
}

// Runs once per file, in the first table that has it and with its lowest number there: SIGIO names the number under
// which O_ASYNC was set.
void link_all(const Table& table, std::set<std::uint32_t>& files, pid_t own_pid, const std::set<pid_t>& tree,
              RestoreContext& context) {
  for (const image::FdinfoEntry& descriptor : table) {
    if (files.erase(descriptor.id()) == 0) continue;
    const int number = static_cast<int>(descriptor.fd());
    const Doing doing("link descriptor {}", number);
    const image::FileEntry& entry = file_of(context, descriptor.id());
    kind_of(entry.type()).link(entry, number, context);
    const image::FileEntry& described = described_by(context, entry);
    if ((flags_of(described) & O_PATH) != 0) continue;
    const auto owner = static_cast<pid_t>(fown_of(described).pid());
    restore_fown(fown_of(described), number, tree.contains(owner) ? owner : own_pid);
    restore_flags(number, flags_of(described));
  }
}

// Of a unix socket's path; an abstract name begins with a NUL and may end with one.
void drop_final_nul(std::string& name) {
  if (name.ends_with('\0') && !name.starts_with('\0')) name.pop_back();
}

Tables read_tables(const image::ImageSet& images) {
  Tables tables;
  for (const std::uint64_t id : images.ids(image::Kind::fdinfo)) {
    const auto files_id = static_cast<std::uint32_t>(id);
    tables[files_id] = read_table(images, files_id);
  }
  return tables;
}

Offsets read_files(const image::ImageSet& images, RestoreContext& context) {
  Offsets offsets;
  if (!images.has(image::Kind::files)) return offsets;
  image::RecordReader reader = images.open(image::Kind::files);
  for (image::FileEntry entry;;) {
    const std::size_t offset = reader.offset();
    if (!reader.next(entry)) return offsets;
    const std::uint32_t id = entry.id();
    offsets[id] = offset;
    if (entry.has_usk()) drop_final_nul(*entry.mutable_usk()->mutable_name());
    context.files.insert_or_assign(id, std::move(entry));
  }
}

int highest_of(const Tables& tables) {
  int highest = -1;
  for (const auto& [id, table] : tables)
    if (!table.empty()) highest = std::max(highest, static_cast<int>(table.back().fd()));
  return highest;
}

}  // namespace

int highest_fd(const image::ImageSet& images) { return highest_of(read_tables(images)); }

std::vector<std::pair<int, bool>> descriptors_of(const image::ImageSet& images, std::uint32_t files_id) {
  std::vector<std::pair<int, bool>> all;
  for (const image::FdinfoEntry& descriptor : read_table(images, files_id))
    all.emplace_back(static_cast<int>(descriptor.fd()), (descriptor.flags() & FD_CLOEXEC) != 0);
  return all;
}

FilePaths paths_of(const image::ImageSet& images) {
  FilePaths paths;
  for (const auto& file : images.records<image::FileEntry>(image::Kind::files))
    if (file.has_reg()) paths[file.id()] = file.reg().name();
  return paths;
}

const std::string& path_of(const FilePaths& paths, std::uint32_t file_id) {
  const auto at = paths.find(file_id);
  if (at == paths.end()) fail(Errc::image_corrupt, "files.img has no file {}", file_id);
  return at->second;
}

Places places_of(const image::ImageSet& images, const FilePaths& paths, pid_t guest_pid) {
  const auto entry = images.get<image::FsEntry>(image::Kind::fs, static_cast<std::uint64_t>(guest_pid));
  return {.cwd = path_of(paths, entry.cwd_id()), .root = path_of(paths, entry.root_id()), .umask = entry.umask()};
}

struct FdRestorer::State {
  State(const image::ImageSet& images, std::map<std::uint32_t, int> given, Terminals made)
      : segments(std::move(given)),
        terminals(std::move(made)),
        tables(read_tables(images)),
        context{.images = images, .segments = segments, .terminals = &terminals} {}

  std::map<std::uint32_t, int> segments;
  Terminals terminals;
  Tables tables;
  std::set<pid_t> tree;  // who is restored
  RestoreContext context;
  std::vector<memfd::Object> memfds;
  std::map<std::uint32_t, UniqueFd> open;                // by file id
  std::map<std::uint32_t, std::set<std::uint32_t>> own;  // by files id: the files that are linked in this table
};

FdRestorer::FdRestorer(const image::ImageSet& images, const std::map<std::uint32_t, int>& segments, Terminals terminals)
    : state_(std::make_unique<State>(images, segments, std::move(terminals))) {
  const Doing doing("restore the descriptors");
  State& s = *state_;
  for (const auto& process : images.records<image::PstreeEntry>(image::Kind::pstree))
    s.tree.insert(static_cast<pid_t>(process.pid()));
  const int floor = highest_of(s.tables) + 1;
  raise_descriptor_limit();  // of this helper process; the tasks' own limits come with the tasks
  const Offsets offsets = read_files(images, s.context);
  // Sockets and files are made with exactly the modes that are set below.
  ::umask(0);
  s.memfds = memfd::restore_objects(s.context, floor);
  s.open = open_files(s.tables, floor, offsets, s.context);
  s.terminals.finish(images);
  std::set<std::uint32_t> seen;
  for (const auto& [files_id, table] : s.tables)
    for (const image::FdinfoEntry& descriptor : table)
      if (seen.insert(descriptor.id()).second) s.own[files_id].insert(descriptor.id());
}

FdRestorer::~FdRestorer() = default;

// From the first placed descriptor on, standard error may be the task's: nothing is logged.
void FdRestorer::place(const RestorePlan& plan) {
  State& s = *state_;
  const Doing doing("restore the descriptors of process {}", plan.pid);
  const Table& table = s.tables[plan.files_id];
  s.terminals.release();  // some may be below
  if (const int highest = highest_of(s.tables); highest >= 0)
    check(::close_range(0, static_cast<unsigned>(highest), 0), "close descriptors up to {}", highest);
  place_all(table, s.open);
  link_all(table, s.own[plan.files_id], plan.pid, s.tree, s.context);
}

void FdRestorer::seal() { memfd::seal(state_->memfds); }

}  // namespace godwit::engine::resources
