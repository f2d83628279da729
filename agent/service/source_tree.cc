#include "agent/service/source_tree.h"

#include "agent/workload/cgroup_wait.h"
#include "agent/workload/homes.h"
#include "common/base/log.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <filesystem>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

namespace fs = std::filesystem;

constexpr int put_back_tries = 3;

std::string tame(std::string name) {
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_') c = '-';
  }
  return name;
}

SourceTree managed_tree(Context& context, const workload::Saved& saved) {
  if (saved.info().state() != "running") {
    fail(Errc::not_found, "the workload '{}' is not running but {}", saved.info().name(), saved.info().state());
  }
  return {.workload = saved.info().name(),
          .managed = true,
          .root = saved.info().pid(),
          .start_time = saved.start_time(),
          .cgroup = saved.cgroup(),
          .info = context.workloads->info(saved.info().name())};
}

SourceTree tree_of_pid(pid_t pid, const Key& key) {
  const proc::Reader reader(pid);
  const proc::Status status = reader.status();
  SourceTree tree{.workload = tame(fmt::format("{}-{}", reader.comm(), status.ns_pid.back())),
                  .root = pid,
                  .start_time = reader.stat().start_time,
                  .cgroup = to_string(key),
                  .info = {}};
  tree.info.set_name(tree.workload);
  tree.info.set_id(fmt::format("{}.{}", key.migration, key.epoch));
  tree.info.set_pid(pid);
  tree.info.set_guest_pid(status.ns_pid.back());
  tree.info.set_state("running");
  tree.info.set_resident_bytes(status.rss_bytes);
  return tree;
}

// Of the processes of a tree any but the root may have ended since the survey.
template <class Act>
void unless_ended(bool is_root, Act act) {
  try {
    act();
  } catch (const Error& e) {
    if (is_root || e.errc() != Errc::target_gone) throw;
  }
}

std::string cgroup_if_there(pid_t pid, const std::string& mount, bool is_root) {
  std::string found;
  unless_ended(is_root, [&] { found = workload::cgroup_of(pid, mount); });
  return found;
}

std::string homes_note(const Context& context, const std::string& cgroup) {
  return context.options.state + "/homes/" + cgroup;
}

void bring_home(const Context& context, const std::string& cgroup) {
  context.homecoming->bring(context.cgroup(cgroup), homes_note(context, cgroup));
}

}  // namespace

void check_unheld(const Context& context, const SourceTree& tree, const Key& key) {
  for (const Record& r : context.records.all()) {
    if (r.key == key || r.key.side != Side::source || r.boot_id != context.facts.boot_id) continue;
    const bool same = r.cgroup == tree.cgroup || (r.pid == tree.root && r.start_time == tree.start_time);
    if (same && r.source() != SourcePhase::none && r.source() != SourcePhase::thawed) {
      fail(Errc::busy, "'{}' is held by the migration {}, which is {}", tree.workload, r.key.migration, phase_name(r));
    }
  }
}

void check_apart(const Context& context, const SourceTree& tree, const engine::Surveyed& survey, const Key& key) {
  const std::string mount = workload::cgroup2_mount(), root = context.cgroup("");
  for (const engine::Task& task : survey.tasks()) {
    const std::string at = cgroup_if_there(task.pid(), mount, &task == &survey.tasks(0));
    if (!at.starts_with(root) || at == context.cgroup(tree.cgroup)) continue;
    const bool workload = at.ends_with(".run") || at.ends_with(".dst");
    const auto taken = [&](const Record& r) {
      return r.key != key && r.key.side == Side::source && !r.is_final() && at == context.cgroup(r.cgroup);
    };
    if (workload || std::ranges::any_of(context.records.all(), taken))
      fail(Errc::busy, "process {} belongs to {}, which is moved as a whole", task.pid(), at.substr(root.size()));
    const std::string copy = at.substr(root.size(), at.find('/', root.size()) - root.size());
    if (copy.ends_with(".src") && fs::exists(homes_note(context, copy)))
      fail(Errc::busy, "process {} is on its way home from {}", task.pid(), copy);
  }
}

SourceTree find_tree(Context& context, const api::Survey& request, const Key& key) {
  const workload::Saved* saved = nullptr;
  if (request.workload().empty()) {
    if (request.pid() <= 1) fail(Errc::invalid_argument, "a survey needs a workload's name or a PID");
    saved = context.workloads->find_by_pid(request.pid());
  } else {
    saved = context.workloads->find(request.workload());
    if (!saved) fail(Errc::not_found, "there is no workload '{}' on this node", request.workload());
  }
  SourceTree tree = saved ? managed_tree(context, *saved) : tree_of_pid(request.pid(), key);
  check_unheld(context, tree, key);
  return tree;
}

void enter_cgroup(Context& context, const SourceTree& tree, const engine::Surveyed& survey) {
  if (tree.managed) return;
  const std::string mount = workload::cgroup2_mount();
  std::vector<workload::Home> homes;
  for (const engine::Task& task : survey.tasks()) {
    unless_ended(&task == &survey.tasks(0), [&] {
      homes.push_back({.pid = task.pid(),
                       .start_time = workload::start_time_of(task.pid()),
                       .cgroup = workload::cgroup_of(task.pid(), mount)});
    });
  }
  workload::note_homes(homes_note(context, tree.cgroup), homes);
  workload::Cgroup cgroup = workload::Cgroup::create(context.cgroup(tree.cgroup));
  for (const engine::Task& task : survey.tasks())
    unless_ended(&task == &survey.tasks(0), [&] { cgroup.add(task.pid()); });
}

void leave_cgroup(Context& context, const SourceTree& tree) {
  if (!tree.managed && !tree.cgroup.empty()) bring_home(context, tree.cgroup);
}

void end_homeless(Context& context) {
  const std::vector<Record> records = context.records.all();
  std::vector<std::string> noted;
  for (const auto& note : fs::directory_iterator(context.options.state + "/homes"))
    noted.push_back(note.path().filename());
  for (const std::string& cgroup : noted) {
    // One that may hold it, or has killed it, knows itself what follows.
    const auto decides = [&](const Record& r) {
      return to_string(r.key) == cgroup && r.source() != SourcePhase::thawed && !r.settled;
    };
    if (cgroup.ends_with(".src") && std::ranges::none_of(records, decides)) bring_home(context, cgroup);
  }
}

std::shared_ptr<jobs::EngineJob> start_source_job(Context& context, const Key& key, std::uint64_t seed,
                                                  jobs::EngineJob::Handlers handlers) {
  jobs::EngineJobPlan plan{.program = context.program("godwit-engine"),
                           .cgroup = context.cgroup("jobs/" + to_string(key)),
                           .journal = context.journal(key),
                           .migration = key.migration,
                           .seed = seed,
                           .kind = jobs::JobKind::source};
  return jobs::EngineJob::start(context.executor, std::move(plan), std::move(handlers));
}

engine::Options engine_options(const api::Options& options) {
  engine::Options result;
  result.set_tcp_close(options.tcp_close());
  result.set_force(options.force());
  result.set_ghost_limit(options.ghost_limit());
  return result;
}

api::Surveyed describe(const SourceTree& tree, const engine::Surveyed& survey) {
  api::Surveyed answer;
  answer.set_engine(survey.SerializeAsString());
  answer.set_workload(tree.workload);
  *answer.mutable_info() = tree.info;
  for (const engine::Refusal& r : survey.refusals()) {
    std::string sentence = fmt::format("process {}: {}: {}", r.pid(), r.what(), r.reason());
    if (!r.hint().empty()) sentence += fmt::format(" ({})", r.hint());
    answer.add_refusals(sentence);
  }
  *answer.mutable_notices() = survey.notices();
  answer.set_resident_bytes(survey.resident_bytes());
  answer.set_xfeatures(survey.xfeatures());
  return answer;
}

api::RoundDone describe(const engine::RoundDone& round, double seconds) {
  api::RoundDone answer;
  answer.set_number(round.number());
  answer.set_pages(round.pages());
  answer.set_zero_pages(round.zero_pages());
  answer.set_bytes(round.bytes());
  answer.set_seconds(seconds);
  answer.set_dirty_bytes_after(round.dirty_bytes_after());
  answer.set_last_sequence(round.last_sequence());
  return answer;
}

net::awaitable<void> put_back(Context& context, Record record, bool release) {
  const auto job = start_source_job(context, record.key, 0, {});
  engine::Command command;
  command.mutable_recover()->set_pid(record.pid);
  if (!record.cgroup.empty()) command.mutable_recover()->set_cgroup(context.cgroup(record.cgroup));
  command.mutable_recover()->set_release(release);
  std::exception_ptr problem;
  try {
    co_await job->ask(std::move(command), {}, context.options.limits.undo);
  } catch (...) {
    problem = std::current_exception();
  }
  if (problem) {
    co_await job->kill();
    std::rethrow_exception(problem);
  }
  co_await job->end(2s);
}

// A copy whose borrowed registers cannot be put back would stay frozen for ever: it is let go all the same, loudly.
net::awaitable<void> release_copy(Context& context, Record record) {
  for (int i = 1;; ++i) {
    std::exception_ptr problem;
    try {
      co_await put_back(context, record, true);
      break;
    } catch (...) {
      problem = std::current_exception();
    }
    log::error("source.put_back",
               {{"migration", record.key.migration}, {"try", i}, {"message", net::to_error(problem).message()}});
    if (i == put_back_tries) break;
    co_await net::sleep_for(100ms);
  }
  if (auto copy = living_copy(context, record)) copy->request_thaw();
}

}  // namespace godwit::service
