#include "tests/engine/move.h"

#include "common/base/check.h"

#include <sys/mman.h>

namespace godwit::engine::test {
namespace {

// Longer than the children of any workload live.
constexpr std::uint32_t child_patience_ms = 5000;

UniqueFd make_journal() { return UniqueFd(check(::memfd_create("journal", MFD_CLOEXEC), "create a journal")); }

}  // namespace

Move::Move(const Route& route)
    : source_cgroup_(route.source),
      source_journal_(make_journal()),
      destination_journal_(make_journal()),
      source_(source_journal_.get(), true),
      destination_(destination_journal_.get(), false),
      pump_(source_, destination_, route.spool) {
  Command survey;
  survey.mutable_survey()->set_pid(route.pid);
  *survey.mutable_survey()->mutable_options() = route.options;
  const Event surveyed = ask(source_, survey);
  for (const Refusal& r : surveyed.surveyed().refusals()) fail(Errc::refused, "{}: {}", r.what(), r.reason());

  Command prepare;
  prepare.mutable_prepare()->set_cgroup(route.destination.path());
  prepare.mutable_prepare()->set_has_init(true);
  *prepare.mutable_prepare()->mutable_options() = route.options;
  const UniqueFd spool = open_file(route.spool, O_RDONLY | O_DIRECTORY);
  const UniqueFd cgroup = open_file(route.destination.path(), O_RDONLY | O_DIRECTORY);
  const Event prepared = destination_.ask(prepare, {spool.get(), route.to.init(), cgroup.get()});
  if (prepared.has_failure())
    throw Error(errc_from_name(prepared.failure().code()), "prepare: " + prepared.failure().message());
}

Event Move::ask(JobClient& job, Command command) {
  command.set_id(++last_id_);
  job.post(command);
  Event event = job.await(command.id(), [this] { pump_(); });
  if (event.has_failure())
    throw Error(errc_from_name(event.failure().code()), event.failure().message(), event.failure().hint());
  return event;
}

void Move::precopy() {
  Command round;
  round.mutable_round()->set_number(round_++);
  ask(source_, round);
}

void Move::freeze() {
  Command freeze;
  freeze.mutable_freeze()->set_number(round_++);
  freeze.mutable_freeze()->set_cgroup(source_cgroup_.path());
  freeze.mutable_freeze()->set_child_patience_ms(child_patience_ms);
  last_sequence_ = ask(source_, freeze).frozen().round().last_sequence();
}

pid_t Move::finish() {
  Command finish;
  finish.mutable_finish()->set_sequence(last_sequence_);
  const pid_t pid = ask(destination_, finish).prepared().tasks(0).pid();
  if (destination_.wait_end() != 0) fail(Errc::internal, "the engine job of the destination did not end well");
  return pid;
}

}  // namespace godwit::engine::test
