#include "agent/engine/memory/background_writer.h"

#include "common/base/fd.h"

#include <algorithm>
#include <csignal>
#include <pthread.h>

namespace godwit::engine {
namespace {

// One being filled, one being written, one on its way: more would only fall out of the cache.
constexpr std::size_t buffers = 3;

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
  changed_.notify_all();
  thread_.join();
}

BackgroundWriter::Job* BackgroundWriter::find(State state) {
  const auto found = std::ranges::find(jobs_, state, &Job::state);
  return found == jobs_.end() ? nullptr : &*found;
}

// With the lock given up while it writes.
void BackgroundWriter::write_out(std::unique_lock<std::mutex>& lock, Job& job) {
  job.state = State::writing;
  lock.unlock();
  std::exception_ptr failure;
  try {
    pwrite_all(job.fd, std::span(job.bytes).first(job.size), job.offset);
  } catch (...) {
    failure = std::current_exception();
  }
  lock.lock();
  if (failure && !failure_) failure_ = failure;
  job.state = State::free;
  changed_.notify_all();
}

std::span<std::byte> BackgroundWriter::buffer() {
  std::unique_lock lock(mutex_);
  Job* job = find(State::filling);
  if (!job) {
    while (!(job = find(State::free))) write_out(lock, *find(State::queued));  // the thread has at most one of them
    job->state = State::filling;
  }
  return job->bytes;
}

void BackgroundWriter::write(int fd, off_t offset, std::size_t size) {
  if (size == 0) return;
  buffer();
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  Job& job = *find(State::filling);
  job.fd = fd;
  job.offset = offset;
  job.size = size;
  job.state = State::queued;
  changed_.notify_all();
}

void BackgroundWriter::finish() {
  std::unique_lock lock(mutex_);
  while (Job* job = find(State::queued)) write_out(lock, *job);
  changed_.wait(lock, [&] { return !find(State::writing); });
  if (failure_) std::rethrow_exception(failure_);
}

void BackgroundWriter::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    Job* job = nullptr;
    changed_.wait(lock, [&] { return (job = find(State::queued)) || ending_; });
    if (!job) return;
    write_out(lock, *job);
  }
}

}  // namespace godwit::engine
