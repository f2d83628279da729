#include "agent/engine/commands/survey_command.h"

#include "agent/engine/commands/refusals.h"
#include "agent/engine/survey.h"
#include "common/base/units.h"

#include <cstdio>

#include <google/protobuf/util/json_util.h>

namespace godwit::engine::commands {
namespace {

void print_json(const Surveyed& s) {
  std::string text;
  google::protobuf::util::JsonPrintOptions print;
  print.preserve_proto_field_names = true;
  if (!google::protobuf::util::MessageToJsonString(s, &text, print).ok())
    fail(Errc::internal, "the survey cannot be printed");
  std::puts(text.c_str());
}

void print_text(const Surveyed& s) {
  for (const Refusal& r : s.refusals())
    fmt::print("refused: {}: {}{}{}\n", r.what(), r.reason(), r.hint().empty() ? "" : "; ", r.hint());
  for (const std::string& notice : s.notices()) fmt::print("notice: {}\n", notice);
  for (const Task& t : s.tasks()) fmt::print("process {} ({}), {} threads\n", t.pid(), t.comm(), t.threads_size());
  fmt::print("{} resident, {} files, {} listening\n", human_bytes(s.resident_bytes()), s.files_size(),
             s.listening_size());
}

}  // namespace

int run_survey(const Options& o) {
  resources::Options options;
  options.tcp_close = o.tcp_close;
  options.file_locks = o.file_locks;
  options.shell_job = o.shell_job;
  Surveyed s = survey(o.tree, Orphans::left_out, options);
  refuse_namespaces(s, o.tree);
  if (o.json)
    print_json(s);
  else
    print_text(s);
  return s.refusals().empty() ? 0 : 3;
}

}  // namespace godwit::engine::commands
