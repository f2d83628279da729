#include "deploy/demo.d/client/write_log.h"

#include <algorithm>
#include <cstring>

namespace godwit::demo {

LogWriter::LogWriter(const std::string& path, bool append)
    : file_(open_file(path, O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC), 0600)) {}

LogWriter::~LogWriter() {
  try {
    flush();
  } catch (const Error&) {
    // Whoever needs the log flushes it first.
  }
}

void LogWriter::append(const LogRecord& record) {
  pending_.push_back(record);
  if (pending_.size() >= 4096) flush();
}

void LogWriter::flush() {
  write_all(file_.get(), std::as_bytes(std::span(pending_)));
  pending_.clear();
}

std::vector<LogRecord> read_log(const std::string& path) {
  const std::string bytes = read_file(path, std::size_t{4} << 30);
  if (bytes.size() % sizeof(LogRecord) != 0) fail(Errc::image_corrupt, "{} ends in the middle of a record", path);
  std::vector<LogRecord> records(bytes.size() / sizeof(LogRecord));
  std::memcpy(records.data(), bytes.data(), bytes.size());
  for (const LogRecord& record : records)
    if (record.outcome != Outcome::acknowledged && record.outcome != Outcome::unknown)
      fail(Errc::image_corrupt, "{} holds a record of an unknown kind", path);
  return records;
}

Expectation::Expectation(std::uint32_t keys, const std::vector<LogRecord>& log) : acknowledged_(keys, 0) {
  for (const LogRecord& record : log) {
    if (record.key >= keys) fail(Errc::image_corrupt, "the log names key {} of {}", record.key, keys);
    switch (record.outcome) {
      case Outcome::acknowledged:
        acknowledged_[record.key] = std::max(acknowledged_[record.key], record.version);
        break;
      case Outcome::unknown: unknown_.emplace(record.key, record.version); break;
    }
  }
}

bool Expectation::is_unknown(Write write) const {
  const auto [first, last] = unknown_.equal_range(write.key);
  return std::any_of(first, last, [&](const auto& entry) { return entry.second == write.version; });
}

bool Expectation::allows(Write write) const {
  const std::uint64_t acknowledged = acknowledged_[write.key];
  // An older one would mean that an acknowledged write was undone.
  return write.version == acknowledged || (write.version > acknowledged && is_unknown(write));
}

}  // namespace godwit::demo
