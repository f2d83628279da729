#include "agent/engine/memory/background_writer.h"

#include "common/base/fd.h"

#include <csignal>
#include <utility>

#include <pthread.h>

namespace godwit::engine {
namespace {

constexpr std::size_t buffers = 16;  // more would only fall out of the cache
// Whoever waits for a free one sleeps until half of them are: waking somebody for each costs as much as writing it.
constexpr std::size_t half = buffers / 2;

}  // namespace

BackgroundWriter::BackgroundWriter(std::size_t buffer_size) : jobs_(buffers) {
  for (Job& job : jobs_) job.bytes.resize(buffer_size);
  // Signals are the engine's.
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

BackgroundWriter::~BackgroundWriter() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  queued_.notify_one();
  thread_.join();
}

std::span<std::byte> BackgroundWriter::buffer() {
  std::unique_lock lock(mutex_);
  if (waiting() == buffers) written_some_.wait(lock, [&] { return waiting() <= half; });
  return next().bytes;
}

void BackgroundWriter::write(int fd, off_t offset, std::size_t size, Then then) {
  if (size == 0) return;
  buffer();
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  Job& job = next();
  job.fd = fd;
  job.offset = offset;
  job.size = size;
  job.then = std::move(then);
  handed_over_++;
  if (waiting() == 1) queued_.notify_one();
}

void BackgroundWriter::finish() {
  std::unique_lock lock(mutex_);
  written_some_.wait(lock, [&] { return waiting() == 0; });
  if (failure_) std::rethrow_exception(failure_);
}

void BackgroundWriter::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    queued_.wait(lock, [&] { return waiting() > 0 || ending_; });
    if (waiting() == 0) return;
    Job& job = jobs_[written_ % buffers];
    lock.unlock();
    std::exception_ptr failure;
    try {
      pwrite_all(job.fd, std::span(job.bytes).first(job.size), job.offset);
      if (const Then then = std::exchange(job.then, {})) then();
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    if (failure && !failure_) failure_ = failure;
    written_++;
    if (waiting() <= half) written_some_.notify_one();
  }
}

}  // namespace godwit::engine
