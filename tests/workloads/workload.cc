#include "tests/workloads/workload.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

namespace godwit::workloads {
namespace {

constexpr double tick = 0.01;
// An orphan that nobody asks to verify itself ends after about ten minutes.
constexpr std::uint64_t most_beats = 60'000;
constexpr int most_logged_failures = 20;

timespec to_timespec(double seconds) {
  const auto whole = static_cast<time_t>(seconds);
  return {whole, static_cast<long>((seconds - static_cast<double>(whole)) * 1e9)};
}

}  // namespace

Workload::Workload(int argc, char** argv)
    : directory_(argc > 1 ? argv[1] : "."), pid_(getpid()), session_(getsid(0)), group_(getpgid(0)) {}

void Workload::ready() {
  last_beat_ = now();
  tell("ready", std::to_string(pid_) + "\n");
}

bool Workload::verify_asked() {
  if (!asked("verify")) return false;
  mode_ = read_file(path("verify"));
  while (!mode_.empty() && mode_.back() == '\n') mode_.pop_back();
  return true;
}

void Workload::beat() {
  if (++heartbeat_ > most_beats) {
    errno = ETIMEDOUT;
    give_up("waiting to be asked for the verification");
  }
  heartbeat_inverted_ = ~heartbeat_;
  const timespec pause = to_timespec(tick);
  const int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
  check(error == 0 || (error == EINTR && (interrupts_expected_ || beside_criu_)),
        "clock_nanosleep of the main thread returned %s", strerrorname_np(error));
  const double at = now();
  if (at - last_beat_ > 3 * tick) lost_ += at - last_beat_ - tick;
  last_beat_ = at;
}

bool Workload::check(bool good, const char* sentence, ...) {
  if (good) return true;
  char text[4096];
  va_list arguments;
  va_start(arguments, sentence);
  std::vsnprintf(text, sizeof text, sentence, arguments);
  va_end(arguments);
  const std::lock_guard lock(mutex_);
  if (failures_ == 0) failure_ = text;
  if (++failures_ <= most_logged_failures) std::fprintf(stderr, "fail: %s\n", text);
  return false;
}

std::string Workload::failure() {
  const std::lock_guard lock(mutex_);
  return failure_;
}

int Workload::finish() {
  check(getpid() == pid_, "the PID was %d and is now %d", pid_, getpid());
  check(gettid() == pid_, "the main thread's TID was %d and is now %d", pid_, gettid());
  check(getsid(0) == session_, "the session was %d and is now %d", session_, getsid(0));
  check(getpgid(0) == group_, "the process group was %d and is now %d", group_, getpgid(0));
  check(heartbeat_inverted_ == ~heartbeat_, "the heartbeat counter is torn");
  const std::lock_guard lock(mutex_);
  std::fprintf(stderr, "%d failures, %.3f s lost, %llu beats\n", failures_, lost_,
               static_cast<unsigned long long>(heartbeat_));
  tell("result", failures_ == 0 ? "pass\n" : "fail: " + failure_ + "\n");
  return failures_ == 0 ? 0 : 1;
}

void Workload::skip(const char* reason) const {
  tell("skipped", std::string(reason) + "\n");
  std::_Exit(0);  // whatever it has started already is left to the runner
}

bool Workload::asked(const char* name) const { return access(path(name).c_str(), F_OK) == 0; }

void Workload::tell(const char* name, const std::string& text) const {
  const std::string draft = path(std::string(".") + name);
  write_file(draft, text);
  must(std::rename(draft.c_str(), path(name).c_str()), "rename");
}

double Workload::now() {
  timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  return static_cast<double>(at.tv_sec) + static_cast<double>(at.tv_nsec) * 1e-9;
}

void give_up(const char* what) {
  std::fprintf(stderr, "cannot go on: %s: %m\n", what);
  std::exit(2);
}

std::uint64_t mix(std::uint64_t value) {  // splitmix64
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

void fill(void* at, std::size_t bytes, std::uint64_t seed) {
  auto* const byte = static_cast<unsigned char*>(at);
  for (std::size_t i = 0; i < bytes; i += 8) {
    const std::uint64_t word = mix(seed + i);
    std::memcpy(byte + i, &word, bytes - i < 8 ? bytes - i : 8);
  }
}

bool holds(const void* at, std::size_t bytes, std::uint64_t seed) {
  const auto* const byte = static_cast<const unsigned char*>(at);
  for (std::size_t i = 0; i < bytes; i += 8) {
    const std::uint64_t word = mix(seed + i);
    if (std::memcmp(byte + i, &word, bytes - i < 8 ? bytes - i : 8) != 0) return false;
  }
  return true;
}

bool all_zero(const void* at, std::size_t bytes) {
  const auto* const byte = static_cast<const unsigned char*>(at);
  for (std::size_t i = 0; i < bytes; ++i) {
    if (byte[i] != 0) return false;
  }
  return true;
}

char* map(std::size_t bytes, int extra_flags) {
  return static_cast<char*>(
      must(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0), "mmap"));
}

void pause_for(double seconds) {
  timespec left = to_timespec(seconds);
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

bool readable(int fd) {
  pollfd asked{fd, POLLIN, 0};
  return poll(&asked, 1, 2000) == 1;
}

void write_file(const std::string& path, const std::string& text) {
  const int fd = must(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), path.c_str());
  if (write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) give_up(path.c_str());
  close(fd);
}

std::string read_file(const std::string& path) {
  std::string text;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char block[4096];
  for (ssize_t got; (got = read(fd, block, sizeof block)) > 0;) text.append(block, static_cast<std::size_t>(got));
  close(fd);
  return text;
}

}  // namespace godwit::workloads
