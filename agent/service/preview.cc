#include "agent/service/preview.h"

#include "agent/service/migrations.h"
#include "agent/service/preflight.h"

namespace godwit::service {

net::awaitable<api::Envelope> preview_source(Context& context, api::Survey request) {
  check_id(request.id());
  Key key = key_of(request.id(), Side::source);
  if (context.records.find(key)) fail(Errc::already_exists, "{} is a migration", to_string(key));
  // Two workloads may be looked at under the same id; each has a job and a journal of its own.
  key.migration += fmt::format("-{}", ++context.previews);
  const auto passing = std::make_shared<SourceMigration>(context, key);  // nobody else will find it
  api::Envelope answer;
  std::exception_ptr problem;
  try {
    answer = co_await passing->survey(std::move(request));
  } catch (...) {
    problem = std::current_exception();
  }
  ::unlink(context.journal(key).c_str());
  if (problem) std::rethrow_exception(problem);
  co_return answer;
}

api::Envelope preview_destination(const Context& context, const api::Check& request) {
  const api::Prepare& prepare = request.prepare();
  check_id(prepare.id());
  engine::Surveyed survey;
  if (!survey.ParseFromString(prepare.survey()) || survey.tasks().empty())
    fail(Errc::invalid_argument, "the survey cannot be read");
  workload::check_workload_name(prepare.workload().name());

  api::Envelope answer;
  api::Checked& checked = *answer.mutable_checked();
  try {
    check_admission(context, key_of(prepare.id(), Side::destination), prepare.workload().name());
  } catch (const Error& e) {
    checked.add_refusals(e.message());
  }
  for (const std::string& sentence : preflight(context, prepare, survey)) checked.add_refusals(sentence);
  if (const std::string& why = context.network_stays_open; !why.empty())
    checked.add_notices(network_notice(context, why));
  return answer;
}

}  // namespace godwit::service
