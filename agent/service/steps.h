// Idempotence of a migration's steps: whoever repeats a request, also while it is being carried out, gets the same
// answer, and nothing is done twice. Work goes on when the one who asked for it has gone.
#pragma once

#include "common/api/control.pb.h"
#include "common/net/async.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace godwit::service {

class Steps {
 public:
  using Work = std::function<net::awaitable<api::Envelope>()>;  // its captures live until it has ended

  explicit Steps(net::Executor executor) : executor_(std::move(executor)) {}

  // The outcome, an Error too, is kept for good.
  net::awaitable<api::Envelope> once(std::string name, Work work);
  // Shared by those who ask while it runs, then forgotten: for questions and for what may have to be tried again.
  net::awaitable<api::Envelope> joined(std::string name, Work work);

  void drop();  // forgets what will not go on: the loop that it ran on has ended

 private:
  struct Step;
  net::awaitable<api::Envelope> outcome_of(std::shared_ptr<Step> step);
  std::shared_ptr<Step> begin(const std::string& name, Work work);

  net::Executor executor_;
  std::map<std::string, std::shared_ptr<Step>> steps_;
};

// One at a time: what changes the phase of a migration takes its turn.
class Turn {
  struct State {
    explicit State(net::Executor executor) : changed(std::move(executor)) {}
    net::Signal changed;
    bool taken = false;
  };

 public:
  explicit Turn(net::Executor executor) : state_(std::make_shared<State>(std::move(executor))) {}

  class Hold {  // may outlive the Turn, when a loop is taken down
   public:
    explicit Hold(std::shared_ptr<State> state) : state_(std::move(state)) {}
    Hold(Hold&&) noexcept = default;
    ~Hold() {
      if (!state_) return;
      state_->taken = false;
      state_->changed.notify();
    }

   private:
    std::shared_ptr<State> state_;
  };

  net::awaitable<Hold> take();

 private:
  std::shared_ptr<State> state_;
};

}  // namespace godwit::service
