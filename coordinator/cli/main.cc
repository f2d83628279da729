// godwit: the command line.
#include "common/base/log.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/explanation.h"
#include "coordinator/cli/local.h"
#include "coordinator/cli/report.h"

#include <cstdio>
#include <span>

#include <signal.h>

int main(int argc, char** argv) {
  using namespace godwit;
  ::signal(SIGPIPE, SIG_IGN);
  log::init("godwit", log::Level::warn);
  try {
    cli::refuse_criu_command(std::span(argv + 1, argv + argc));
    if (cli::is_local(std::span(argv + 1, argv + argc))) {
      ::signal(SIGPIPE, SIG_DFL);  // what is ignored would be inherited
      cli::exec_local({argv + 1, argv + argc});
      return cli::exit_done;
    }
    int exit_code = cli::exit_done;
    const auto options = cli::parse(argc, argv, exit_code);
    return options ? cli::run(*options) : exit_code;
  } catch (const Error& e) {
    std::fprintf(stderr, "godwit: %s\n", cli::printable(e.message()).c_str());
    std::fprintf(stderr, "hint: %s\n", cli::printable(cli::hint_or_advice(e.errc(), e.hint())).c_str());
    return cli::exit_code_of(e);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "godwit: %s\n", e.what());
    return cli::exit_failed;
  }
}
