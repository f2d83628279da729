#include "agent/workload/cgroup.h"

#include "common/proc/reader.h"

#include <array>
#include <cstring>
#include <filesystem>
#include <thread>

#include <fcntl.h>
#include <sys/stat.h>

namespace godwit::workload {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

template <class Condition>
bool poll_until(milliseconds limit, Condition met) {
  const auto deadline = Clock::now() + limit;
  auto pause = std::chrono::microseconds(100);
  while (!met()) {
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(pause);
    if (pause < milliseconds(5)) pause *= 2;
  }
  return true;
}

// A file handle of a cgroup is its id (5.5+), and that is the inode of its directory.
class KernfsHandle {
 public:
  explicit KernfsHandle(std::uint64_t id) {
    const file_handle head{.handle_bytes = sizeof id, .handle_type = kernfs_id};
    std::memcpy(bytes_.data(), &head, sizeof head);
    std::memcpy(bytes_.data() + sizeof head, &id, sizeof id);
  }
  file_handle* get() { return reinterpret_cast<file_handle*>(bytes_.data()); }

 private:
  static constexpr int kernfs_id = 0xfe;  // FILEID_KERNFS of <linux/exportfs.h>
  alignas(file_handle) std::array<std::byte, sizeof(file_handle) + sizeof(std::uint64_t)> bytes_{};
};

}  // namespace

Cgroup Cgroup::create(const std::string& path) {
  for (std::size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
    const std::string part = path.substr(0, at);
    if (::mkdir(part.c_str(), 0755) == -1 && errno != EEXIST) check(-1, "make the cgroup {}", part);
    if (at == std::string::npos) break;
  }
  return {path, open_file(path, O_RDONLY | O_DIRECTORY)};
}

std::optional<Cgroup> Cgroup::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd == -1 && errno == ENOENT) return std::nullopt;
  return Cgroup(path, UniqueFd(check(fd, "open the cgroup {}", path)));
}

std::optional<Cgroup> Cgroup::open_by_id(std::uint64_t id, const std::string& path, const Cgroup& beside) {
  KernfsHandle handle(id);
  const int fd = ::open_by_handle_at(beside.dir(), handle.get(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd == -1 && errno == ESTALE) return std::nullopt;
  return Cgroup(path, UniqueFd(check(fd, "open the cgroup {} by its id", path)));
}

std::uint64_t Cgroup::id() const {
  struct stat st{};
  check(::fstat(dir(), &st), "tell the id of the cgroup {}", path_);
  return st.st_ino;
}

void Cgroup::write(const char* file, std::string_view text) const {
  UniqueFd fd(check(::openat(dir(), file, O_WRONLY | O_CLOEXEC), "open {}/{}", path_, file));
  check(::write(fd.get(), text.data(), text.size()), "write {} to {}/{}", text, path_, file);
}

void Cgroup::add(pid_t pid) { write("cgroup.procs", std::to_string(pid)); }

std::vector<pid_t> Cgroup::pids() const {
  UniqueFd fd(check(::openat(dir(), "cgroup.procs", O_RDONLY | O_CLOEXEC), "open {}/cgroup.procs", path_));
  return proc::parse_cgroup_procs(read_all(fd.get()));
}

std::string Cgroup::read(const char* file) const {
  const int opened = ::openat(dir(), file, O_RDONLY | O_CLOEXEC);
  // A removed cgroup has no files any more: nobody lives there.
  if (opened == -1 && (errno == ENOENT || errno == ENODEV)) return {};
  UniqueFd fd(check(opened, "open {}/{}", path_, file));
  return read_all(fd.get());
}

bool Cgroup::event(std::string_view name) const {
  return read("cgroup.events").find(fmt::format("{} 1", name)) != std::string::npos;
}

bool Cgroup::told_to_freeze() const { return read("cgroup.freeze").starts_with('1'); }

void Cgroup::request_freeze() { write("cgroup.freeze", "1"); }
void Cgroup::request_thaw() { write("cgroup.freeze", "0"); }
void Cgroup::kill() { write("cgroup.kill", "1"); }

void Cgroup::freeze(milliseconds limit) {
  request_freeze();
  if (!poll_until(limit, [this] { return frozen(); })) fail(Errc::timed_out, "{} does not freeze", path_);
}

void Cgroup::thaw(milliseconds limit) {
  request_thaw();
  if (!poll_until(limit, [this] { return !frozen(); })) fail(Errc::timed_out, "{} does not thaw", path_);
}

void Cgroup::wait_empty(milliseconds limit) const {
  if (!poll_until(limit, [this] { return !populated(); })) fail(Errc::timed_out, "{} does not become empty", path_);
}

bool Cgroup::remove() const {
  if (::rmdir(path_.c_str()) == 0 || errno == ENOENT) return true;
  if (errno == EBUSY || errno == ENOTEMPTY) return false;
  check(-1, "remove the cgroup {}", path_);
  return false;
}

void Cgroup::destroy(const std::string& path, milliseconds limit) {
  auto cgroup = open(path);
  if (!cgroup) return;
  cgroup->kill();
  cgroup->wait_empty(limit);
  std::vector<std::string> below;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.is_directory() && !entry.is_symlink()) below.push_back(entry.path());
  }
  for (const std::string& child : below) destroy(child, limit);
  // The last task is counted a moment longer than it is listed.
  if (!poll_until(limit, [&] { return cgroup->remove(); })) fail(Errc::timed_out, "{} stays in use", path);
}

std::string cgroup2_mount() {
  for (const auto& mount : proc::Reader(::getpid()).mountinfo()) {
    if (mount.type == "cgroup2") return mount.point;
  }
  throw Error(Errc::kernel_missing, "cgroup v2 is not mounted", "mount -t cgroup2 none /sys/fs/cgroup/unified");
}

std::string cgroup_of(pid_t pid, const std::string& mount) {
  for (const auto& line : proc::Reader(pid).cgroup()) {
    if (line.id == 0) return line.path == "/" ? mount : mount + line.path;
  }
  fail(Errc::kernel_missing, "process {} is in no v2 cgroup", pid);
}

}  // namespace godwit::workload
