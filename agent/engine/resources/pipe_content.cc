#include "agent/engine/resources/pipe_content.h"

#include "common/base/fd.h"
#include "common/base/log.h"

#include <numeric>

#include <sys/ioctl.h>

namespace godwit::engine::resources {
namespace {

// Every read takes one packet of a pipe in packet mode, and as much as fits of any other.
void drain(int fd, PipeContent& content, std::size_t expected) {
  content.bytes.resize(expected);
  std::size_t done = 0;
  while (done < expected) {
    const ssize_t n = check(::read(fd, content.bytes.data() + done, expected - done), "read the copy of a pipe");
    if (n == 0) break;
    content.entry.add_packets(static_cast<std::uint32_t>(n));
    done += static_cast<std::size_t>(n);
  }
  content.bytes.resize(done);
  if (content.entry.packets_size() < 2) content.entry.clear_packets();
}

void set_size(int fd, std::uint32_t size) {
  if (::fcntl(fd, F_GETPIPE_SZ) == static_cast<int>(size)) return;
  if (::fcntl(fd, F_SETPIPE_SZ, static_cast<int>(size)) >= 0) return;
  // Above fs.pipe-max-size only CAP_SYS_RESOURCE may go. A smaller pipe works; what does not fit fails below.
  log::warn("restore.pipe_size", {{"wanted", size}, {"error", errno}});
}

}  // namespace

PipeContent read_pipe_content(int fd, std::uint32_t pipe_id) {
  PipeContent content;
  const int size = check(::fcntl(fd, F_GETPIPE_SZ), "read the size of a pipe");
  content.entry.set_pipe_id(pipe_id);
  content.entry.set_size(static_cast<std::uint32_t>(size));
  int queued = 0;
  check(::ioctl(fd, FIONREAD, &queued), "read the fill of a pipe");
  if (queued > 0) {
    // Through /proc, because `fd` may be the write end.
    const UniqueFd source = open_file(fmt::format("/proc/self/fd/{}", fd), O_RDONLY | O_NONBLOCK);
    const auto [read_end, write_end] = make_pipe(O_CLOEXEC | O_NONBLOCK);
    // tee shares buffers, so the copy needs as many slots as the original.
    if (size > 65536) check(::fcntl(write_end.get(), F_SETPIPE_SZ, size), "make a pipe of {} bytes", size);
    const ssize_t copied =
        check(::tee(source.get(), write_end.get(), static_cast<std::size_t>(queued), SPLICE_F_NONBLOCK),
              "copy {} bytes in a pipe", queued);
    if (copied != queued) fail(Errc::internal, "copied {} of {} bytes in a pipe", copied, queued);
    drain(read_end.get(), content, static_cast<std::size_t>(queued));
  }
  content.entry.set_bytes(static_cast<std::uint32_t>(content.bytes.size()));
  return content;
}

std::optional<PipeContent> find_pipe_content(const image::ImageSet& images, image::Kind kind, std::uint32_t pipe_id) {
  const auto length = [](const image::PipeDataEntry& entry) { return entry.bytes(); };
  for (auto& record : images.records_with_payload<image::PipeDataEntry>(kind, 0, length)) {
    if (record.entry.pipe_id() == pipe_id) return PipeContent{std::move(record.entry), std::move(record.payload)};
  }
  return std::nullopt;
}

void write_pipe_content(int write_end, const PipeContent& content) {
  if (content.entry.has_size()) set_size(write_end, content.entry.size());
  const auto put = [&](std::string_view bytes) {
    const ssize_t n = ::write(write_end, bytes.data(), bytes.size());
    if (n != static_cast<ssize_t>(bytes.size())) {
      fail(Errc::no_space, "{} bytes that were in a pipe do not fit into the new one", content.bytes.size());
    }
  };
  if (content.bytes.empty()) return;
  const auto& packets = content.entry.packets();
  if (packets.empty()) return put(content.bytes);
  if (std::accumulate(packets.begin(), packets.end(), std::uint64_t{0}) != content.bytes.size()) {
    fail(Errc::image_corrupt, "pipes-data.img: packets of a pipe do not add up to its {} bytes", content.bytes.size());
  }
  check(::fcntl(write_end, F_SETFL, O_NONBLOCK | O_DIRECT), "set packet mode");
  for (std::string_view rest = content.bytes; const std::uint32_t length : packets) {
    put(rest.substr(0, length));
    rest.remove_prefix(length);
  }
}

}  // namespace godwit::engine::resources
