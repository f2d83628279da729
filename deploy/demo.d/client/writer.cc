#include "deploy/demo.d/client/writer.h"

#include "common/base/log.h"

#include <algorithm>
#include <thread>

#include <poll.h>

namespace godwit::demo {

namespace {

using std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

constexpr milliseconds tick{1};  // writes go out in groups: a wake-up per write would cost more than the write
constexpr milliseconds connect_limit{250};
constexpr milliseconds retry_pause{2};
constexpr double worth_a_line_ms = 500;

double to_ms(Steady::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

}  // namespace

Writer::Writer(WriterOptions options, const Values& values, const Locator& locator, LogWriter& log, std::uint64_t seed)
    : options_(options),
      values_(values),
      locator_(locator),
      log_(log),
      random_(seed),
      next_version_(options.first_version) {}

WriterReport Writer::run(const std::atomic<bool>& stop) {
  const Time started = last_answer_ = Steady::now();
  while (!connection_) connect();
  last_answer_ = Steady::now();
  while (!(stopping_ && in_flight_.empty())) {
    stopping_ = stop;
    if (!connection_) {
      if (stopping_) break;
      connect();
      continue;
    }
    try {
      if (!stopping_) send_due();
      wait_until_next();
      take_replies();
    } catch (const Error& error) {
      log::info("client.disconnected", {{"why", error.message()}});
      break_off();
    }
    if (connection_ && !in_flight_.empty() && Steady::now() - last_answer_ > options_.patience) look_elsewhere();
  }
  log_.flush();
  report_.seconds = std::chrono::duration<double>(Steady::now() - started).count();
  return report_;
}

void Writer::connect() {
  if (Steady::now() - last_answer_ > options_.give_up)
    fail(Errc::timed_out, "no write was acknowledged for {} s", options_.give_up.count() / 1000);
  try {
    if (const auto found = locator_.locate()) {
      connection_ = Connection::connect(*found, connect_limit);
      address_ = *found;
      log::info("client.connected", {{"host", found->host}});
    }
  } catch (const Error& error) {
    log::debug("client.connect", {{"why", error.message()}});
  }
  if (!connection_) {
    std::this_thread::sleep_for(retry_pause);
    return;
  }
  // What was not written during the gap is not made up for: this is a rate, not a debt.
  pace_start_ = last_look_ = Steady::now();
  pace_sent_ = 0;
}

void Writer::break_off() {
  connection_.reset();
  ++report_.reconnects;
  for (const Write& write : in_flight_) log_.append({write.version, write.key, Outcome::unknown});
  report_.unknown += in_flight_.size();
  in_flight_.clear();
}

void Writer::look_elsewhere() {
  const Time now = Steady::now();
  if (now - last_answer_ > options_.give_up)
    fail(Errc::timed_out, "no write was acknowledged for {} s", options_.give_up.count() / 1000);
  if (now - last_look_ < options_.patience) return;
  last_look_ = now;
  const auto found = locator_.locate();
  if (found && *found != address_) break_off();
}

void Writer::send_due() {
  const double elapsed = std::chrono::duration<double>(Steady::now() - pace_start_).count();
  const auto due = static_cast<std::uint64_t>(elapsed * options_.per_second);
  std::uniform_int_distribution<std::uint32_t> any_key(0, options_.keys - 1);
  while (pace_sent_ < due) {
    if (in_flight_.size() >= options_.in_flight) {
      pace_start_ = Steady::now();
      pace_sent_ = 0;
      break;
    }
    const Write write{.key = any_key(random_), .version = next_version_++};
    connection_->queue({"SET", key_name(write.key), values_.make(write)});
    in_flight_.push_back(write);
    ++pace_sent_;
  }
  connection_->send_some();
}

void Writer::wait_until_next() {
  pollfd entry{.fd = connection_->fd(), .events = POLLIN, .revents = 0};
  if (connection_->wants_to_write()) entry.events |= POLLOUT;
  // While answers are due they are taken as they come; without any, the next group is a tick away.
  const int n = ::poll(&entry, 1, static_cast<int>(tick.count()));
  if (n < 0 && errno != EINTR) throw syscall_error(errno, "wait for redis");
  if (n <= 0) return;
  if (entry.revents & POLLOUT) connection_->send_some();
  if (entry.revents & (POLLIN | POLLHUP | POLLERR)) connection_->receive_some();
}

void Writer::take_replies() {
  while (auto reply = connection_->next_reply()) {
    if (in_flight_.empty()) fail(Errc::protocol, "redis answered what was not asked");
    const Write write = in_flight_.front();
    in_flight_.pop_front();
    if (reply->kind == Reply::Kind::status && reply->text == "OK") {
      note_gap(Steady::now());
      log_.append({write.version, write.key, Outcome::acknowledged});
      ++report_.acknowledged;
    } else {
      log::warn("client.refused", {{"reply", reply->text}});
      log_.append({write.version, write.key, Outcome::unknown});
      ++report_.refused;
    }
  }
}

void Writer::note_gap(Time now) {
  if (report_.acknowledged > 0) {
    const double gap = to_ms(now - last_answer_);
    if (gap > worth_a_line_ms) log::info("client.gap", {{"ms", gap}});
    if (gap > report_.longest_gap_ms) {
      report_.second_longest_gap_ms = std::exchange(report_.longest_gap_ms, gap);
    } else {
      report_.second_longest_gap_ms = std::max(report_.second_longest_gap_ms, gap);
    }
  }
  last_answer_ = now;
}

}  // namespace godwit::demo
