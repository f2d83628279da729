// Undo is written next to do:
//
//   lock_network(ns);
//   undo.add("unlock network", [&] { unlock_network(ns); });
//   ...
//   undo.dismiss();   // in exactly one place: after commit
//
// Steps run in reverse order when the Rollback goes out of scope; one that throws is logged and the
// rest still runs. Never throws.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace godwit {

class Rollback {
 public:
  Rollback() = default;
  ~Rollback() { run(); }
  Rollback(const Rollback&) = delete;
  Rollback& operator=(const Rollback&) = delete;

  void add(std::string what, std::function<void()> undo) { steps_.push_back({std::move(what), std::move(undo)}); }
  void dismiss() { steps_.clear(); }
  void run() noexcept;

 private:
  struct Step {
    std::string what;
    std::function<void()> undo;
  };
  std::vector<Step> steps_;
};

}  // namespace godwit
