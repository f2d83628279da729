#include "agent/service/steps.h"

namespace godwit::service {

struct Steps::Step {
  explicit Step(net::Executor executor) : changed(std::move(executor)) {}
  Work work;
  net::Signal changed;
  bool done = false;
  api::Envelope answer;
  std::exception_ptr problem;
};

namespace {

// The step holds what the work captured until the work has ended.
template <class Step>
net::awaitable<void> carry_out(std::shared_ptr<Step> step) {
  try {
    step->answer = co_await step->work();
  } catch (...) {
    step->problem = std::current_exception();
  }
}

}  // namespace

std::shared_ptr<Steps::Step> Steps::begin(const std::string& name, Work work) {
  const auto step = std::make_shared<Step>(executor_);
  step->work = std::move(work);
  steps_[name] = step;
  net::spawn(executor_, carry_out(step), [step](std::exception_ptr) {
    step->done = true;
    step->work = {};
    step->changed.notify();
  });
  return step;
}

net::awaitable<api::Envelope> Steps::outcome_of(std::shared_ptr<Step> step) {
  while (!step->done) co_await step->changed.wait();
  if (step->problem) std::rethrow_exception(step->problem);
  co_return step->answer;
}

net::awaitable<api::Envelope> Steps::once(std::string name, Work work) {
  const auto found = steps_.find(name);
  const std::shared_ptr<Step> step = found != steps_.end() ? found->second : begin(name, std::move(work));
  co_return co_await outcome_of(step);
}

net::awaitable<api::Envelope> Steps::joined(std::string name, Work work) {
  const auto found = steps_.find(name);
  const bool running = found != steps_.end() && !found->second->done;
  const std::shared_ptr<Step> step = running ? found->second : begin(name, std::move(work));
  co_return co_await outcome_of(step);
}

void Steps::drop() {
  for (const auto& [name, step] : steps_) step->work = {};
  steps_.clear();
}

net::awaitable<Turn::Hold> Turn::take() {
  const auto state = state_;
  while (state->taken) co_await state->changed.wait();
  state->taken = true;
  co_return Hold(state);
}

}  // namespace godwit::service
