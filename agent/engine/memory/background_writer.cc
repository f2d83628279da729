#include "agent/engine/memory/background_writer.h"

#include "common/base/check.h"

#include <csignal>
#include <system_error>
#include <utility>

#include <pthread.h>

namespace godwit::engine {
namespace {

constexpr std::size_t buffers = 16;  // more would only fall out of the cache
// Whoever waits for a free one sleeps until half of them are: waking somebody for each costs as much as writing it.
constexpr std::size_t half = buffers / 2;
// Who writes is decided block by block: near each other, two would meet at the lock of a page table.
constexpr std::uint64_t block_size = 2u << 20;
// With so many buffers to write, the threads are busy for as long as the caller fills and writes a block.
constexpr std::size_t enough = 10;

}  // namespace

BackgroundWriter::BackgroundWriter(std::size_t buffer_size, std::size_t threads, Caller caller)
    : caller_(caller), jobs_(buffers) {
  for (Job& job : jobs_) job.bytes.resize(buffer_size);
  // Signals are the engine's.
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  int error_number = 0;
  try {
    for (std::size_t i = 0; i < threads; i++) threads_.emplace_back([this] { run(); });
  } catch (const std::system_error& e) {
    error_number = e.code().value();
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (threads_.empty()) throw syscall_error(error_number, "start a thread that writes");
}

BackgroundWriter::~BackgroundWriter() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  queued_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

std::span<std::byte> BackgroundWriter::buffer() {
  std::unique_lock lock(mutex_);
  if (waiting() == buffers) written_some_.wait(lock, [&] { return waiting() <= half; });
  return job(handed_over_).bytes;
}

bool BackgroundWriter::callers_turn(const PageFile& file, std::uint64_t offset) {
  if (caller_ == Caller::only_fills) return false;
  if (&file != file_ || offset / block_size != block_) {
    file_ = &file;
    block_ = offset / block_size;
    callers_turn_ = handed_over_ - taken_ >= enough;
  }
  return callers_turn_;
}

void BackgroundWriter::write(PageFile& file, std::uint64_t offset, std::size_t size, Then then) {
  if (size == 0) return;
  buffer();
  std::unique_lock lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  if (callers_turn(file, offset)) {
    const Buffer& filled = job(handed_over_).bytes;
    lock.unlock();
    file.write(std::span(filled).first(size), offset);
    if (then) then();
    return;
  }
  Job& next = job(handed_over_++);
  next.file = &file;
  next.offset = offset;
  next.size = size;
  next.then = std::move(then);
  if (handed_over_ - taken_ <= threads_.size()) queued_.notify_one();
}

void BackgroundWriter::finish() {
  std::unique_lock lock(mutex_);
  written_some_.wait(lock, [&] { return waiting() == 0; });
  if (failure_) std::rethrow_exception(failure_);
}

void BackgroundWriter::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    queued_.wait(lock, [&] { return taken_ < handed_over_ || ending_; });
    if (taken_ == handed_over_) return;
    do_one(lock);
  }
}

void BackgroundWriter::do_one(std::unique_lock<std::mutex>& lock) {
  Job& mine = job(taken_++);
  lock.unlock();
  std::exception_ptr failure;
  try {
    mine.file->write(std::span(mine.bytes).first(mine.size), mine.offset);
    if (const Then then = std::exchange(mine.then, {})) then();
  } catch (...) {
    failure = std::current_exception();
  }
  lock.lock();
  if (failure && !failure_) failure_ = failure;
  mine.written = true;
  while (written_ < taken_ && job(written_).written) job(written_++).written = false;
  if (waiting() <= half) written_some_.notify_one();
}

}  // namespace godwit::engine
