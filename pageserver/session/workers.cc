#include "pageserver/session/workers.h"

namespace godwit::pageserver {

Workers::Workers(unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    workers_.push_back(std::make_unique<Worker>());
    Worker& w = *workers_.back();
    w.thread = std::thread([&w] { w.io.run(); });
  }
}

Workers::~Workers() {
  for (auto& w : workers_) w->io.stop();
  for (auto& w : workers_) w->thread.join();
}

net::Executor Workers::next() { return workers_[next_++ % workers_.size()]->io.get_executor(); }

}  // namespace godwit::pageserver
