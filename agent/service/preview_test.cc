#include "agent/service/test_migration.h"

namespace godwit::service {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

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

TEST_F(Preview, lists_everything_that_would_be_refused_at_once) {
  run_workload();
  api::RunWorkload twin;
  twin.set_name("job");
  for (const char* word : {"sleep", "600"}) twin.add_argv(word);
  b.workloads().run(twin);
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
