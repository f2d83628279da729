// Which tasks there are: who has come, has ended or has run another program since the last look.
#include "agent/engine/dump.h"
#include "agent/engine/memory/aio_requests.h"
#include "agent/engine/tasks/hidden.h"
#include "agent/engine/tasks/undo_values.h"
#include "common/base/check.h"

#include <algorithm>
#include <ranges>
#include <thread>

namespace godwit::engine {

using namespace std::chrono_literals;

// What was sent of it is of no use any more.
void Dump::forget(SourceTask& task, PageSink& sink) {
  if (task.known()) sink.file(fmt::format("{}gone-{}", layout_prefix, task.guest_pid()), "");
  task.taken_back();
  task.forget();
}

// Children first: the destination waits for each as its parent.
void Dump::forget_all(PageSink& sink) {
  for (const auto& task : tasks_ | std::views::reverse) forget(*task, sink);
}

// After an exec.
void Dump::forget_program(SourceTask& task, PageSink& sink) {
  sink.file(fmt::format("{}reset-{}", layout_prefix, task.guest_pid()), "");
  task.forget();
}

// Who has ended, or has another parent or session by now, is gone for the destination, and so are his children there;
// who is new comes to it.
void Dump::look_at_tree(const std::vector<TreeMember>& tree, PageSink& sink) {
  tree_ = relatives_of(tree);
  std::vector<std::unique_ptr<SourceTask>> known = std::exchange(tasks_, {});
  std::set<pid_t> anew;  // by the PIDs that the tree knows
  for (const Relative& r : tree_) {
    if (r.dead) continue;
    const auto it = std::ranges::find_if(
        known, [&](const auto& t) { return t && t->pid() == r.host && t->kinship() == r.kin && !t->has_ended(); });
    if (it != known.end() && !anew.contains(r.kin.parent)) {
      tasks_.push_back(std::move(*it));
      continue;
    }
    anew.insert(r.pid);
    try {
      tasks_.push_back(std::make_unique<SourceTask>(r));
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone || r.host == pid_) throw;
    }
  }
  std::erase_if(
      calls_, [&](const auto& calls) { return std::ranges::find(tree_, calls.first, &Relative::host) == tree_.end(); });
  for (const auto& task : known | std::views::reverse)
    if (task) forget(*task, sink);
  find_users_of_memory();
  const image::ImageSet image = tree_image(tree_);
  for (const auto& [name, bytes] : image.files()) sink.file(fmt::format("{}{}", layout_prefix, name), bytes);
}

void Dump::find_users_of_memory() {
  std::map<pid_t, std::vector<pid_t>> users;
  for (const auto& task : tasks_)
    if (task->uses_others_memory()) users[task->kinship().memory].push_back(task->pid());
  for (const auto& task : tasks_) {
    const auto found = users.find(task->guest_pid());
    task->used_by(found == users.end() ? std::vector<pid_t>{} : found->second);
  }
}

// Makes a tracker in each task without one, which needs an injected call. Who has ended meanwhile stays without.
void Dump::track_new() {
  std::set<pid_t> fresh;
  for (const auto& task : tasks_)
    if (!task->begun() && !task->uses_others_memory() && !task->has_ended()) fresh.insert(task->pid());
  if (fresh.empty()) return;
  std::map<pid_t, tasks::Witnesses> witnesses;
  for (const pid_t pid : fresh) witnesses.try_emplace(pid, pid);
  const std::shared_ptr<HeldTree> held = hold(fresh);
  for (const auto& task : tasks_) {
    Hold* const hold = fresh.contains(task->pid()) ? held->find(task->pid()) : nullptr;
    if (!hold) continue;
    try {
      tasks::refuse_hidden(*hold, witnesses.at(task->pid()), tasks::Asked::all);
      tasks::refuse_undo_values(*hold, Errc::refused);
      refuse_strange_aio_rings(*hold);
      task->ask_policies(*hold, false);
      task->begin(task->make_userfaultfd(hold->leader()), ids_, second_);
    } catch (const Error&) {
      if (task->pid() == pid_ || !task->has_ended()) throw;
    }
  }
  held->release();
}

// Whether that was the end of the task or an exec: its memory goes a moment before it is seen to end or to be another
// program.
bool Dump::memory_has_gone(SourceTask& task, const Error& why, PageSink& sink) {
  if (why.errc() != Errc::target_gone && why.errc() != Errc::not_found) return false;
  for (int i = 0; i < 200; i++) {
    if (task.has_ended()) return true;
    try {
      if (!task.same_program()) {
        forget_program(task, sink);
        return true;
      }
    } catch (const Error&) {  // it is on its way
    }
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

// A member that was killed before it stopped is there for a moment longer.
void Dump::try_again_without_the_dead(const Error& why) const {
  if (why.errc() != Errc::target_gone && why.errc() != Errc::not_found) return;
  for (const auto& task : tasks_)
    if (task->pid() != pid_ && task->has_ended())
      fail(Errc::busy, "process {} ended just now: {}", task->pid(), why.message());
}

// A member that ends meanwhile takes what it has written with it; who is born meanwhile is not counted.
std::uint64_t Dump::of_the_living(PageSink& sink, const std::function<std::uint64_t(SourceTask&)>& count) {
  std::uint64_t sum = 0;
  for (const auto& task : tasks_) {
    try {
      if (task->begun() && !task->has_ended()) sum += count(*task);
    } catch (const Error& e) {
      if ((task->pid() == pid_ && task->has_ended()) || !memory_has_gone(*task, e, sink)) throw;
    }
  }
  return sum;
}

}  // namespace godwit::engine
