// godwit: the command line.
#include "common/base/log.h"
#include "common/base/standard_streams.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/explanation.h"
#include "coordinator/cli/local.h"
#include "coordinator/cli/report.h"
#include "coordinator/cli/word_order.h"

#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

namespace godwit::cli {
namespace {

int run_line(int argc, char** argv) {
  const std::vector<std::string> words = command_first({argv + 1, argv + argc});
  refuse_criu_command(words);
  if (is_local(words)) {
    ::signal(SIGPIPE, SIG_DFL);  // what is ignored would be inherited
    exec_local(words);
    return exit_done;
  }
  int exit_code = exit_done;
  const auto options = parse(argc, argv, exit_code);
  return options ? run(*options) : exit_code;
}

int failed(const Error& e) {
  std::fprintf(stderr, "godwit: %s\n", printable(e.message()).c_str());
  std::fprintf(stderr, "hint: %s\n", printable(hint_or_advice(e.errc(), e.hint())).c_str());
  return exit_code_of(e);
}

}  // namespace
}  // namespace godwit::cli

int main(int argc, char** argv) {
  using namespace godwit;
  open_standard_streams();
  ::signal(SIGPIPE, SIG_IGN);
  log::init("godwit", log::Level::warn);
  int status = cli::exit_done;
  try {
    status = cli::run_line(argc, argv);
  } catch (const Error& e) {
    return cli::failed(e);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "godwit: %s\n", e.what());
    return cli::exit_failed;
  }
  try {
    finish_output();
    return status;
  } catch (const Error& e) {
    cli::failed(e);
    return status == cli::exit_done ? cli::exit_unknown : status;  // it is done, and nobody has been told
  }
}
