// The threads that streams run on, one io_context each; a stream never leaves its thread.
#pragma once

#include "common/net/async.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <memory>
#include <thread>
#include <vector>

namespace godwit::pageserver {

class Workers {
 public:
  explicit Workers(unsigned count);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  net::Executor next();  // in turn

 private:
  struct Worker {
    net::asio::io_context io{1};
    net::asio::executor_work_guard<net::asio::io_context::executor_type> keep = net::asio::make_work_guard(io);
    std::thread thread;
  };
  std::vector<std::unique_ptr<Worker>> workers_;
  std::size_t next_ = 0;
};

}  // namespace godwit::pageserver
