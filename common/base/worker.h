// A thread that does what it is given, in that order, while whoever gave it is busy with something else.
//
// It takes no signals, and may run on every CPU that its maker may run on when it is made, also when the maker pins
// itself later. run() is called from one thread. A process that has forked has no worker: make it after.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>

namespace godwit {

class Worker {
 public:
  Worker();
  ~Worker();  // everything given is done
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // The future has what `work` returns or throws. What `work` refers to must last until then.
  template <class Work>
  std::future<std::invoke_result_t<Work&>> run(Work work) {
    std::packaged_task<std::invoke_result_t<Work&>()> task(std::move(work));
    auto result = task.get_future();
    give([task = std::move(task)]() mutable { task(); });
    return result;
  }

 private:
  using Task = std::move_only_function<void()>;
  void give(Task task);
  void loop();

  std::mutex mutex_;
  std::condition_variable given_;
  std::deque<Task> tasks_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace godwit
