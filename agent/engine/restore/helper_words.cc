#include "agent/engine/restore/helper_words.h"

#include <fmt/format.h>

#include <charconv>
#include <concepts>
#include <cstring>

namespace godwit::engine::helper {
namespace {

constexpr char done = 'O', failed = 'E';
constexpr char separator = '\x1f';  // of an error's code, message and hint

[[noreturn]] void unknown(std::string_view what) {
  fail(Errc::protocol, "{} that engine and helper of a restore do not know", what);
}

// Numbers with one blank behind each but the last.
class Words {
 public:
  explicit Words(std::string_view text) : rest_(text) {}

  template <std::integral T>
  T number() {
    T value{};
    const auto [end, problem] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (problem != std::errc()) unknown("a request");
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    if (!rest_.empty()) {
      if (rest_.front() != ' ') unknown("a request");
      rest_.remove_prefix(1);
    }
    return value;
  }
  pid_t pid() {
    const auto value = number<pid_t>();
    if (value <= 0) unknown("a request");
    return value;
  }
  int index() {
    const auto value = number<int>();
    if (value < 0) unknown("a request");
    return value;
  }
  bool flag() {
    const auto value = number<unsigned>();
    if (value > 1) unknown("a request");
    return value == 1;
  }
  std::string rest() { return std::string(std::exchange(rest_, {})); }
  bool empty() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

std::map<std::uint32_t, int> segments_in(Words& words) {
  std::map<std::uint32_t, int> segments;
  while (!words.empty()) {
    const auto shmid = words.number<std::uint32_t>();
    segments[shmid] = words.number<int>();
  }
  return segments;
}

// Braces: the words are read in their order.
Request request_of(char kind, Words& words) {
  switch (kind) {
    case 'S': return Spawn{words.pid(), words.number<std::uint64_t>(), words.flag()};
    case 'W': return Reap{words.pid()};
    case 'M': {
      SegmentSpec spec{.memfd = words.flag(), .memfd_name = {}, .size = words.number<std::uint64_t>()};
      spec.create_flags = words.number<unsigned>();
      spec.memfd_name = words.rest();
      return MakeSegment{std::move(spec)};
    }
    case 'Y': return MakeTerminal{words.index()};
    case 'R': return ReplaceTerminal{words.index()};
    case 'A': return Adopt{words.number<std::uint32_t>(), words.pid(), words.index()};
    case 'T': return MakeTimeNamespace{words.number<std::uint64_t>(), words.number<std::uint64_t>()};
    case 'F': return OpenFiles{segments_in(words)};
    case 'P': return Place{words.number<std::uint32_t>(), words.pid()};
    default: unknown("a request");
  }
}

std::string words(const Spawn& r) { return fmt::format("S{} {} {}", r.pid, r.scratch, r.own_session ? 1 : 0); }
std::string words(const Reap& r) { return fmt::format("W{}", r.pid); }
std::string words(const MakeSegment& r) {
  return fmt::format("M{} {} {} {}", r.spec.memfd ? 1 : 0, r.spec.size, r.spec.create_flags, r.spec.memfd_name);
}
std::string words(const MakeTerminal& r) { return fmt::format("Y{}", r.terminal); }
std::string words(const ReplaceTerminal& r) { return fmt::format("R{}", r.terminal); }
std::string words(const Adopt& r) { return fmt::format("A{} {} {}", r.id, r.pid, r.number); }
std::string words(const MakeTimeNamespace& r) { return fmt::format("T{} {}", r.monotonic_ns, r.boottime_ns); }
std::string words(const OpenFiles& r) {
  std::string text = "F";
  for (const auto& [shmid, number] : r.segments) text += fmt::format("{} {} ", shmid, number);
  return text;
}
std::string words(const Place& r) { return fmt::format("P{} {}", r.files_id, r.pid); }

}  // namespace

std::string words_of(const Request& request) {
  return std::visit([](const auto& r) { return words(r); }, request);
}

Request parse_request(std::string_view text) {
  if (text.empty()) unknown("a request");
  Words words(text.substr(1));
  Request request = request_of(text[0], words);
  if (!words.empty()) unknown("a request");
  return request;
}

std::string answer(std::string_view text) { return std::string(1, done).append(text); }

std::string answer(const Error& e) {
  return fmt::format("{}{}{}{}{}{}", failed, name(e.errc()), separator, e.message(), separator, e.hint());
}

std::string parse_answer(std::string_view words) {
  if (words.starts_with(done)) return std::string(words.substr(1));
  const std::size_t first = words.find(separator), second = words.find(separator, first + 1);
  if (!words.starts_with(failed) || first == words.npos || second == words.npos) unknown("an answer");
  throw Error(errc_from_name(std::string(words.substr(1, first - 1))),
              std::string(words.substr(first + 1, second - first - 1)), std::string(words.substr(second + 1)));
}

int parse_number(std::string_view answer) {
  int value = 0;
  const auto [end, problem] = std::from_chars(answer.data(), answer.data() + answer.size(), value);
  if (problem != std::errc() || end != answer.data() + answer.size() || value < 0) unknown("an answer");
  return value;
}

std::string packed(const image::ImageSet& images) {
  std::string bytes;
  for (const auto& [name, content] : images.files()) {
    const std::uint64_t sizes[2] = {name.size(), content.size()};
    bytes.append(reinterpret_cast<const char*>(sizes), sizeof sizes);
    bytes += name;
    bytes += content;
  }
  return bytes;
}

image::ImageSet unpacked(std::string_view bytes) {
  image::ImageSet images;
  while (!bytes.empty()) {
    std::uint64_t sizes[2];
    if (bytes.size() < sizeof sizes) unknown("images");
    std::memcpy(sizes, bytes.data(), sizeof sizes);
    bytes.remove_prefix(sizeof sizes);
    if (sizes[0] > bytes.size() || sizes[1] > bytes.size() - sizes[0]) unknown("images");
    images.put_file(std::string(bytes.substr(0, sizes[0])), std::string(bytes.substr(sizes[0], sizes[1])));
    bytes.remove_prefix(sizes[0] + sizes[1]);
  }
  return images;
}

}  // namespace godwit::engine::helper
