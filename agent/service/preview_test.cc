#include "agent/service/preflight.h"
#include "agent/service/test_migration.h"

#include <array>

#include <sys/stat.h>

namespace godwit::service {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::chrono_literals;

class Preview : public MigrationTest {
 protected:
  api::Surveyed survey_only() {
    return ask(a,
               [&](api::Envelope& e) {
                 *e.mutable_survey()->mutable_id() = id;
                 e.mutable_survey()->set_workload("job");
                 e.mutable_survey()->set_dry_run(true);
               })
        .surveyed();
  }
  void begin_probe(const std::string& workload, std::uint32_t milliseconds, bool& done) {
    api::Envelope request;
    *request.mutable_survey()->mutable_id() = id;
    request.mutable_survey()->set_workload(workload);
    request.mutable_survey()->set_dry_run(true);
    request.mutable_survey()->set_probe_ms(milliseconds);
    net::spawn(a.io->get_executor(), answered(*a.agent, std::move(request)),
               [&done](std::exception_ptr) { done = true; });
  }
  static net::awaitable<void> answered(Agent& agent, api::Envelope request) {
    co_await answer_coordinator(agent.context(), agent.migrations(), std::move(request));
  }
  std::vector<std::string> refusals(const api::Surveyed& surveyed) {
    const api::Envelope answer = ask(b, [&](api::Envelope& e) {
      api::Prepare& p = *e.mutable_check()->mutable_prepare();
      *p.mutable_id() = id;
      p.set_source_node("a");
      p.set_survey(surveyed.engine());
      *p.mutable_workload() = surveyed.info();
    });
    EXPECT_TRUE(answer.has_checked());
    return {answer.checked().refusals().begin(), answer.checked().refusals().end()};
  }
  static std::vector<std::string> files_of(const TestNode& node) {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(node.options.state))
      files.push_back(entry.path());
    std::ranges::sort(files);
    return files;
  }
  static std::vector<std::string> names_of(const std::vector<Record>& records) {
    std::vector<std::string> names;
    for (const Record& r : records) names.push_back(to_string(r.key));
    return names;
  }
};

TEST_F(Preview, says_what_both_sides_would_and_leaves_no_trace) {
  const pid_t root = run_workload();
  const auto files_a = files_of(a), files_b = files_of(b);
  identify("preview", 7);
  const api::Surveyed surveyed = survey_only();
  EXPECT_EQ(surveyed.workload(), "job");
  EXPECT_EQ(surveyed.refusals_size(), 0);
  EXPECT_THAT(refusals(surveyed), ElementsAre());
  expect_nothing_left_but("run");
  EXPECT_EQ(files_of(a), files_a);
  EXPECT_EQ(files_of(b), files_b);
  EXPECT_THAT(names_of(a.records().all()), ElementsAre());
  EXPECT_THAT(names_of(b.records().all()), ElementsAre());
  EXPECT_EQ(::kill(root, 0), 0);
  // Nor does its epoch stand in the way of a lower one.
  identify("after", 2);
  commit(arm_all());
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
}

TEST_F(Preview, probes_when_it_is_asked_to_and_leaves_no_trace_either) {
  const pid_t root = run_workload();
  const auto files = files_of(a);
  const auto probe = [&] {
    return ask(a,
               [&](api::Envelope& e) {
                 *e.mutable_survey()->mutable_id() = id;
                 e.mutable_survey()->set_workload("job");
                 e.mutable_survey()->set_dry_run(true);
                 e.mutable_survey()->set_probe_ms(1500);
               })
        .surveyed();
  };
  identify("preview", 7);
  EXPECT_EQ(survey_only().dirty_size(), 0);
  const api::Surveyed surveyed = probe();
  ASSERT_EQ(surveyed.dirty_size(), 1);
  EXPECT_EQ(surveyed.dirty(0).seconds(), 1.5);
  EXPECT_GT(surveyed.dirty(0).bytes(), 0u);
  identify("under-way", 6);
  connect_all();
  identify("preview", 7);
  EXPECT_THAT(error_of(probe), HasSubstr("busy: the migration under-way is moving it"));
  identify("under-way", 6);
  abort();
  discard();
  EXPECT_TRUE(pair.turn_until([&] { return a.records().find(key_of(id, Side::source))->settled; }));
  identify("refuse-survey", 7);
  EXPECT_EQ(probe().dirty_size(), 0) << "what cannot be moved is not touched";
  identify("die-probe", 7);
  EXPECT_THAT(error_of(probe), HasSubstr("engine"));
  expect_nothing_left_but("run");
  EXPECT_EQ(files_of(a), files);
  EXPECT_EQ(state_at(a), "running");
  EXPECT_EQ(::kill(root, 0), 0);
}

TEST_F(Preview, keeps_others_from_moving_what_it_probes_and_thaws_nothing) {
  const pid_t root = run_workload();
  identify("under-way", 6);
  const api::Prepared prepared = prepare(survey());
  identify("slow-probe-die-probe", 7);
  bool done = false;
  begin_probe("job", 2000, done);
  ASSERT_TRUE(pair.turn_until([&] { return a.agent->context().probed.contains(root); }));
  identify("under-way", 6);
  EXPECT_THAT(error_of([&] { connect(prepared); }), HasSubstr("busy: 'job' is measured by a dry run"));
  identify("later", 7);
  EXPECT_THAT(error_of([&] { survey(); }), HasSubstr("busy: 'job' is measured by a dry run"));
  auto frozen = workload::Cgroup::open(a.agent->context().cgroup(a.workloads().find("job")->cgroup()));
  ASSERT_TRUE(frozen);
  frozen->freeze(5s);
  EXPECT_FALSE(done);
  ASSERT_TRUE(pair.turn_until([&] { return done; }));
  EXPECT_TRUE(frozen->frozen()) << "by somebody else";
  frozen->thaw(5s);
  EXPECT_FALSE(a.agent->context().probed.contains(root));
  identify("under-way", 6);
  EXPECT_EQ(discard().phase(), api::DESTINATION_REFUSED);
  identify("after", 8);
  commit(arm_all());
}

TEST_F(Preview, of_two_workloads_under_one_id_have_a_job_and_a_journal_each) {
  const auto jobs = [&] {
    std::size_t journals = 0, cgroups = 0;
    for (const std::string& file : files_of(a)) journals += file.ends_with(".journal") ? 1 : 0;
    std::error_code none_yet;
    for (const auto& entry : std::filesystem::directory_iterator(a.options.cgroup + "/jobs", none_yet))
      cgroups += entry.is_directory() && entry.path().filename() != "pageserver" ? 1 : 0;
    return std::pair(journals, cgroups);
  };
  for (const std::string name : {"one", "two"}) {
    ask(a, [&](api::Envelope& e) {
      e.mutable_run_workload()->set_name(name);
      for (const char* word : {"sleep", "600"}) e.mutable_run_workload()->add_argv(word);
    });
  }
  identify("slow-probe");
  std::array<bool, 2> done{};
  begin_probe("one", 2000, done[0]);
  begin_probe("two", 2000, done[1]);
  EXPECT_TRUE(pair.turn_until([&] { return jobs() == std::pair<std::size_t, std::size_t>(2, 2); }));
  EXPECT_TRUE(pair.turn_until([&] { return done[0] && done[1]; }));
  EXPECT_TRUE(pair.turn_until([&] { return jobs() == std::pair<std::size_t, std::size_t>(0, 0); }));
}

TEST_F(Preview, lists_everything_that_would_be_refused_at_once) {
  run_workload();
  run_workload(b);
  identify("future-cpu");
  EXPECT_THAT(refusals(survey_only()), ElementsAre(HasSubstr("there is a workload 'job' on this node already"),
                                                   HasSubstr("register state is in use that this CPU does not have")));
}

TEST_F(Preview, and_a_migration_refuse_a_cpu_that_lacks_what_the_program_may_have_found) {
  run_workload();
  identify("older");
  std::erase(b.agent->context().facts.cpu_flags, "sse2");
  EXPECT_THAT(refusals(survey_only()), ElementsAre(HasSubstr("its CPU lacks sse2")));
  EXPECT_THAT(error_of([&] { prepare(survey()); }), HasSubstr("its CPU lacks sse2"));
}

TEST_F(Preview, names_a_migration_that_is_unfinished_at_the_destination) {
  run_workload();
  identify("first");
  connect_all();
  id.set_migration("preview");
  EXPECT_THAT(refusals(survey_only()), testing::Contains(HasSubstr("the migration first of 'job' is still building")));
}

TEST_F(Preview, under_the_id_of_a_migration_that_is_under_way_touches_nothing_of_it) {
  run_workload();
  identify("live");
  connect_all();
  round(0);
  const auto files = files_of(a);
  EXPECT_THAT(files, testing::Contains(a.agent->context().journal(key_of(id, Side::source))));
  EXPECT_THAT(error_of([&] { survey_only(); }), HasSubstr("already_exists: live.1.src is a migration"));
  EXPECT_EQ(files_of(a), files) << "what its engine has borrowed is in there";
  commit(arm(finish(freeze().round().last_sequence())));
}

// Its content would be theirs as soon as it is put there.
TEST_F(Preview, and_a_migration_refuse_a_fifo_that_somebody_has_open_here) {
  run_workload();
  identify("fifo");
  const std::string path = b.options.state + "/fifo";
  check(::mkfifo(path.c_str(), 0640), "make a fifo");
  api::Surveyed surveyed = survey_only();
  engine::Surveyed needs;
  ASSERT_TRUE(needs.ParseFromString(surveyed.engine()));
  engine::NeededFile& fifo = *needs.add_files();
  fifo.set_path(path);
  fifo.set_mode(S_IFIFO | 0640);
  surveyed.set_engine(needs.SerializeAsString());
  EXPECT_THAT(refusals(surveyed), ElementsAre());
  UniqueFd stranger = open_file(path, O_RDWR | O_NONBLOCK);
  EXPECT_THAT(refusals(surveyed),
              ElementsAre(HasSubstr(fmt::format("the fifo {} is open in process {} here", path, ::getpid()))));
  EXPECT_THAT(error_of([&] { prepare(surveyed); }), HasSubstr("refused: the fifo " + path));
  stranger.reset();
  id.set_epoch(2);
  survey();
  connect(prepare(surveyed));
  round(0);
  const std::uint64_t last = freeze().round().last_sequence();
  stranger = open_file(path, O_RDWR | O_NONBLOCK);
  EXPECT_THAT(error_of([&] { finish(last); }), HasSubstr("busy: the fifo " + path)) << "it may have come meanwhile";
  EXPECT_EQ(destination(), DestinationPhase::refused);
  EXPECT_TRUE(pair.turn_until([&] { return a.records().find(key_of(id, Side::source))->settled; }));
  stranger.reset();
  id.set_epoch(3);
  survey();
  connect(prepare(surveyed));
  round(0);
  const api::Finished finished = finish(freeze().round().last_sequence());
  EXPECT_EQ(finished.steps(0).name(), "arrive");
  EXPECT_EQ(finished.steps(1).name(), "look for fifos") << "of every process, while the workload stands still";
}

// Each fits, both do not.
TEST_F(Preview, and_a_migration_refuse_memory_that_is_promised_to_another_one) {
  run_workload();
  identify("first");
  const api::Surveyed surveyed = survey();
  engine::Surveyed needs;
  ASSERT_TRUE(needs.ParseFromString(surveyed.engine()));
  needs.set_resident_bytes(memory_available() * 6 / 10);
  api::Surveyed large = surveyed;
  large.set_engine(needs.SerializeAsString());
  EXPECT_THAT(refusals(large), ElementsAre());
  prepare(large);

  api::Surveyed other = large;
  other.mutable_info()->set_name("other");
  identify("second");
  EXPECT_THAT(refusals(other), ElementsAre(HasSubstr("are promised to others that are on their way")));
  EXPECT_THAT(error_of([&] { prepare(other); }), HasSubstr("are promised to others"));
  identify("first");
  EXPECT_EQ(discard().phase(), api::DESTINATION_REFUSED);
  identify("third");
  EXPECT_THAT(refusals(other), ElementsAre());
}

TEST_F(Preview, counts_what_was_promised_until_the_copy_has_taken_it) {
  run_workload();
  identify("arriving");
  connect_all();
  Context& context = b.agent->context();
  const Key key = key_of(id, Side::destination), another{.migration = "another", .epoch = 1, .side = Side::destination};
  const std::uint64_t promised = context.promised.at(key).bytes;
  EXPECT_GE(promised, b.options.spool_limit);
  EXPECT_EQ(promised_to_others(context, key), 0u) << "its own";
  EXPECT_LE(promised_to_others(context, another), promised);
  EXPECT_GT(promised_to_others(context, another), 0u);
  round(0);
  finish(freeze().round().last_sequence());
  EXPECT_EQ(promised_to_others(context, another), 0u) << "it has all of it";
  context.promised[key] = {.workload = "job", .bytes = 1ull << 40};
  const std::uint64_t taken = (1ull << 40) - promised_to_others(context, another);
  EXPECT_GT(taken, 0u);
  EXPECT_EQ(taken, b.workloads().info("job").resident_bytes());
}

// A program in a file of that name has it as its own name, which the survey, the sentences and the journal's entries
// then carry.
TEST_F(Preview, takes_names_that_are_no_utf8) {
  const std::string program = a.options.state + "/caf\xe9";
  std::filesystem::create_symlink("/bin/sleep", program);
  api::RunWorkload start;
  start.set_name("job");
  for (const std::string& word : {program, std::string("600")}) start.add_argv(word);
  const api::Envelope started = ask(a, [&](api::Envelope& e) { *e.mutable_run_workload() = start; });
  EXPECT_EQ(started.workload().argv(0), program);
  identify("refuse-survey", 7);
  const api::Surveyed surveyed = survey_only();
  engine::Surveyed tasks;
  ASSERT_TRUE(tasks.ParseFromString(surveyed.engine()));
  EXPECT_EQ(tasks.tasks(0).comm(), "caf\xe9");
  // As another program reads it.
  api::Envelope sent, received;
  *sent.mutable_surveyed() = surveyed;
  EXPECT_TRUE(received.ParseFromString(sent.SerializeAsString()));
}

TEST_F(Preview, does_not_take_what_cannot_be_read) {
  identify("bad");
  api::Surveyed nonsense;
  nonsense.set_engine("what is this");
  EXPECT_THAT(error_of([&] { refusals(nonsense); }), HasSubstr("invalid_argument: the survey cannot be read"));
  identify("../bad");
  EXPECT_THAT(error_of([&] { refusals(nonsense); }), HasSubstr("is no id of a migration"));
  EXPECT_THAT(error_of([&] { survey_only(); }), HasSubstr("is no id of a migration"));
}

}  // namespace
}  // namespace godwit::service
