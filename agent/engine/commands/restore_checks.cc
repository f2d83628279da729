#include "agent/engine/commands/restore_checks.h"

#include "agent/engine/resources/needed_files.h"
#include "agent/engine/restore/callers_terminal.h"
#include "agent/engine/restore/pid_holder.h"
#include "agent/engine/restore/process_plan.h"
#include "agent/engine/restore/shell_job.h"
#include "common/base/error.h"
#include "common/image/any_image.h"
#include "common/image/core.pb.h"
#include "common/image/files.pb.h"
#include "common/image/fs.pb.h"
#include "common/image/generation.h"
#include "common/image/inventory.pb.h"
#include "common/image/mm.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/remap.pb.h"
#include "common/image/task_state.h"
#include "common/image/vma_status.h"

#include <csignal>
#include <cstring>
#include <map>
#include <set>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit::engine::commands {
namespace {

using resources::NeededFile;

std::string join(const std::vector<std::string>& sentences) {
  std::string all;
  for (const std::string& s : sentences) all += (all.empty() ? "" : "; ") + s;
  return all;
}

void check_inventory(const image::ImageSet& images, const Options& o) {
  if (!images.has(image::Kind::inventory))
    throw Error(Errc::image_corrupt, fmt::format("inventory.img is missing in {}: the dump did not finish", o.images),
                "dump again");
  image::RecordReader reader = images.open(image::Kind::inventory);
  image::InventoryEntry inventory;
  if (!reader.next(inventory)) reader.corrupt("no record");
  if (inventory.img_version() != image::image_version)
    reader.corrupt(fmt::format("version {}, {} can be read", inventory.img_version(), image::image_version));
  if (inventory.has_pre_dump_mode() && !images.has(image::Kind::pstree))
    throw Error(Errc::image_corrupt, fmt::format("{} holds a pre-dump: memory, and no process", o.images),
                "restore from the dump that came after it");
}

// Every record of every image, so that a damaged one is found before anything is made.
void check_records(const image::ImageSet& images) {
  for (const auto& [name, bytes] : images.files()) {
    const auto known = image::parse_file_name(name);
    if (!known || known->kind == image::Kind::pages) continue;
    if (known->kind == image::Kind::core) {
      images.view<image::CoreEntry>(known->kind, known->id);  // kept: these are asked for again
    } else if (known->kind == image::Kind::mm) {
      images.view<image::MmEntry>(known->kind, known->id);
    } else {
      image::RecordReader reader(known->kind, name, bytes);
      image::read_any(known->kind, reader, [](const google::protobuf::Message&) {});
    }
  }
}

void require(const image::ImageSet& images, image::Kind kind, std::uint64_t id) {
  if (!images.has(kind, id)) fail(Errc::image_corrupt, "{} is missing", image::file_name(kind, id));
}

// What a process cannot be made without, of this machine's kind.
void check_process(const image::ImageSet& images) {
  require(images, image::Kind::pstree, 0);
  require(images, image::Kind::files, 0);
  for (const auto& p : images.records<image::PstreeEntry>(image::Kind::pstree)) {
    require(images, image::Kind::core, p.pid());
    if (!is_dead(images, static_cast<pid_t>(p.pid()))) {
      for (const image::Kind kind : {image::Kind::ids, image::Kind::fs}) require(images, kind, p.pid());
      for (const image::Kind kind : {image::Kind::mm, image::Kind::pagemap})
        require(images, kind, p.has_memory_of() ? p.memory_of() : p.pid());
    }
    for (const std::uint32_t tid : p.threads()) {
      const auto of = images.view<image::CoreEntry>(image::Kind::core, tid).mtype();
      if (of != image::CoreEntry::X86_64)
        fail(Errc::image_corrupt, "{}: a process of another machine: {}", image::file_name(image::Kind::core, tid),
             image::CoreEntry::March_Name(of));
    }
  }
}

// Without its pagemap shared memory would come back empty, and nobody would know. CRIU writes none for an empty memfd.
void check_shared_memory(const image::ImageSet& images) {
  for (const auto& p : images.records<image::PstreeEntry>(image::Kind::pstree)) {
    if (p.has_memory_of() || is_dead(images, static_cast<pid_t>(p.pid()))) continue;
    const auto& mm = images.view<image::MmEntry>(image::Kind::mm, p.pid());
    for (const image::VmaEntry& v : mm.vmas())
      if (v.status() & image::vma_status::anon_shared) require(images, image::Kind::pagemap_shmem, v.shmid());
  }
  for (const auto& memfd : images.records<image::MemfdInodeEntry>(image::Kind::memfd))
    if (memfd.size() > 0) require(images, image::Kind::pagemap_shmem, memfd.shmid());
}

// Files that are opened by their path: not ghosts, which the images bring along, nor what CRIU notes of terminals.
std::map<std::uint32_t, NeededFile> files_by_id(const image::ImageSet& images) {
  std::set<std::uint32_t> remapped;
  for (const auto& r : images.records<image::RemapFilePathEntry>(image::Kind::remap_fpath))
    remapped.insert(r.orig_id());
  for (const auto& f : images.records<image::FileEntry>(image::Kind::files))
    if (f.has_tty()) remapped.insert(f.id());
  std::map<std::uint32_t, NeededFile> files;
  for (const auto& f : images.records<image::FileEntry>(image::Kind::files)) {
    if (!f.has_reg() || !f.reg().has_mode() || remapped.contains(f.id())) continue;
    const image::RegFileEntry& reg = f.reg();
    NeededFile n{.path = reg.name(), .size = reg.size(), .mode = reg.mode(), .build_id = {}};
    n.writable = (reg.flags() & O_ACCMODE) != O_RDONLY || !reg.has_size();
    for (const std::uint32_t word : reg.build_id())
      n.build_id.append(reinterpret_cast<const char*>(&word), sizeof word);
    files.emplace(f.id(), std::move(n));
  }
  return files;
}

std::vector<std::string> wrong_files(const image::ImageSet& images) {
  std::map<std::string, NeededFile> by_path;
  for (auto& [id, file] : files_by_id(images)) {
    const auto [at, fresh] = by_path.try_emplace(file.path, file);
    if (fresh) continue;
    at->second.writable |= file.writable;
    if (at->second.build_id.empty()) at->second.build_id = file.build_id;
  }
  std::vector<NeededFile> needed;
  for (auto& [path, file] : by_path) needed.push_back(file);
  return resources::check_files(needed);
}

bool is_stopped(const image::ImageSet& images, std::uint32_t pid) {
  return images.view<image::CoreEntry>(image::Kind::core, pid).tc().task_state() == image::task_state::stopped;
}

void check_terminal(const image::ImageSet& images, const Options& o) {
  const ShellJob job = shell_job_of(images);
  if (job.terminal >= 0 && !o.shell_job)
    throw Error(Errc::refused, fmt::format("/dev/pts/{} is a terminal of somebody else's", job.terminal),
                "restore with --shell-job: standard input takes its place");
  if (!o.shell_job) return;
  if (job.terminal >= 0 && !CallersTerminal::is_terminal(STDIN_FILENO))
    throw Error(Errc::refused,
                fmt::format("--shell-job: standard input is no terminal that could take the place of /dev/pts/{}",
                            job.terminal),
                "restore from a terminal");
  if (job.controlled && !CallersTerminal::controls_us(STDIN_FILENO))
    throw Error(Errc::refused, "--shell-job: standard input is not the controlling terminal of this session",
                "restore from a shell on that terminal");
  if (!job.in_session || !o.detached || o.sibling) return;
  for (const auto& p : images.records<image::PstreeEntry>(image::Kind::pstree))
    if (is_stopped(images, p.pid()))
      throw Error(Errc::refused,
                  fmt::format("--shell-job: process {} is stopped, and without anybody that waits for the job it is "
                              "told to hang up",
                              p.pid()),
                  "restore without --restore-detached, or with --restore-sibling, too");
}

std::vector<std::string> taken_pids(const image::ImageSet& images) {
  std::vector<std::string> taken;
  for (const auto& p : images.records<image::PstreeEntry>(image::Kind::pstree))
    for (const std::uint32_t tid : p.threads())
      if (::kill(static_cast<pid_t>(tid), 0) == 0 || errno == EPERM)
        taken.push_back(fmt::format("{} {} is taken by {}", tid == p.pid() ? "PID" : "TID", tid,
                                    pid_holder(static_cast<pid_t>(tid), ::getpid())));
  return taken;
}

// All that is in the way at once: who puts the one right does not want to hear of the other only then.
void check_host(const image::ImageSet& images, const Options& o) {
  const std::vector<std::string> wrong = wrong_files(images);
  std::vector<std::string> sentences = o.namespaces ? std::vector<std::string>() : taken_pids(images);
  std::vector<std::string> hints;
  if (!sentences.empty()) hints.emplace_back("end what has the PID, or restore with --namespaces");
  if (!wrong.empty()) {
    sentences.insert(sentences.begin(), "this host lacks what the process needs: " + join(wrong));
    hints.insert(hints.begin(), "install the same packages, or copy the files, and restore again");
  }
  if (!sentences.empty())
    throw Error(wrong.empty() ? Errc::already_exists : Errc::refused, join(sentences), join(hints));
}

}  // namespace

void check_before_restore(const image::ImageSet& images, int directory, const Options& o) {
  check_inventory(images, o);
  image::refuse_other_pages(directory);
  check_records(images);
  check_process(images);
  check_shared_memory(images);
  check_terminal(images, o);
  check_host(images, o);
}

}  // namespace godwit::engine::commands
