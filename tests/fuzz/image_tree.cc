// A set of images as a whole: the tree, the tables of descriptors, the paths, the queues, the terminals and the
// filters that a restore finds in it, and what it refuses.
// Each piece of the input is a file: its kind, its number, its length in two bytes, its records.
#include "agent/engine/resources/fd_table.h"
#include "agent/engine/resources/terminal_images.h"
#include "agent/engine/resources/unix_pair.h"
#include "agent/engine/restore/foreign_state.h"
#include "agent/engine/restore/process_plan.h"
#include "agent/engine/restore/shell_job.h"
#include "agent/engine/restore/thread_plan.h"
#include "agent/engine/tasks/filters.h"
#include "common/base/error.h"
#include "common/image/image_set.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <set>

namespace godwit {

using namespace engine;

namespace {

image::ImageSet set_of(std::string_view input) {
  image::ImageSet set;
  while (input.size() >= 4) {
    const auto kind = static_cast<image::Kind>(input[0]);
    const auto byte = [&](std::size_t at) { return static_cast<std::size_t>(static_cast<unsigned char>(input[at])); };
    const std::size_t id = byte(1), length = byte(2) | byte(3) << 8;
    input.remove_prefix(4);
    if (kind >= image::Kind::inventory && kind <= image::last_kind && kind != image::Kind::pages)
      set.put_file(image::file_name(kind, id), image::header(kind).append(input.substr(0, length)));
    input.remove_prefix(std::min(length, input.size()));
  }
  return set;
}

// Each question by itself: another one's answer may be an error.
void ask(auto question) {
  try {
    question();
  } catch (const Error&) {
  }
}

// What is typed again is all that was there, and an end for each line.
void terminals(const image::ImageSet& set) {
  for (const auto& info : set.records<image::TtyInfoEntry>(image::Kind::tty_info)) {
    const auto queues = resources::queues_of(info, set);
    const termios2 settings = resources::pseudo_terminal::from_image(info.termios());
    require(typed_again(queues, settings).size() >= queues.input.size());
  }
}

// Each thread gets its own, and no filter is installed twice on top of the same ones.
void filters_of_threads(const image::ImageSet& set) {
  const tasks::filters::Stored stored(set);
  std::vector<tasks::filters::Chain> chains;
  for (const std::uint64_t id : set.ids(image::Kind::core))
    ask([&] {
      const auto core = set.get<image::CoreEntry>(image::Kind::core, id);
      chains.push_back(stored.chain_of(core.thread_core(), core.thread_core()));
    });
  if (chains.empty()) return;
  std::vector<tasks::filters::Chain> made(chains.size());
  std::set<tasks::filters::Chain> installed;
  for (const ThreadStep& step : plan_threads(chains)) {
    for (const std::size_t thread : step.made) made[thread] = made[step.maker];
    if (!step.adds) continue;
    made[step.maker].push_back(*step.adds);
    require(installed.insert(made[step.maker]).second);
  }
  require(made == chains);
}

}  // namespace

void fuzz(std::string_view input) {
  const image::ImageSet set = set_of(input);
  ask([&] {
    for (const ProcessPlan& p : read_tree(set)) {
      require(p.pid > 0 && p.ppid >= 0);
      ask([&] { is_dead(set, p.pid); });
      ask([&] { resources::places_of(set, resources::paths_of(set), p.pid); });
    }
  });
  ask([&] {
    const int highest = resources::highest_fd(set);
    for (const std::uint64_t id : set.ids(image::Kind::fdinfo))
      for (const auto& [fd, close] : resources::descriptors_of(set, static_cast<std::uint32_t>(id)))
        require(fd >= 0 && fd <= highest);
  });
  ask([&] { resources::read_unix_queues(set); });
  ask([&] { terminals(set); });
  ask([&] { filters_of_threads(set); });
  ask([&] { refuse_foreign_state(set); });
  ask([&] { shell_job_of(set); });
}

}  // namespace godwit
