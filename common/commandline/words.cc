#include "common/commandline/words.h"

#include "common/base/error.h"
#include "common/commandline/foreign_options.h"
#include "common/commandline/option_owners.h"
#include "common/commandline/verbosity.h"

#include <CLI/CLI.hpp>

#include <algorithm>

namespace godwit {

void add_verbosity(CLI::App& app, int& verbosity) {
  app.add_option("-v,--verbosity", verbosity, "0 nothing, 1 errors, 2 warnings, 3 information, 4 all; -v adds one")
      ->capture_default_str()
      ->check(CLI::Range(0, highest_verbosity));
}

void parse_words(CLI::App& app, const std::vector<std::string>& words) {
  std::vector<std::string> reversed = spell_out_verbosity(words);  // CLI11 takes them from the back
  std::ranges::reverse(reversed);
  app.parse(reversed);
}

void refuse_word(const std::string& command, const std::string& word) {
  constexpr std::string_view negation = "--no-";
  if (!word.starts_with('-')) fail(Errc::invalid_argument, "godwit {}: what is '{}'?", command, word);
  if (word.starts_with(negation)) {
    const std::string option = "--" + word.substr(negation.size());
    if (commands_with(option) || reason_against(option))
      throw Error(Errc::invalid_argument, fmt::format("CRIU has {}, Godwit does not", word),
                  "options are off unless they are given");
  }
  if (const auto reason = reason_against(word))
    throw Error(Errc::invalid_argument, fmt::format("CRIU has {}, Godwit does not: {}", word, *reason));
  if (const auto others = commands_with(word))
    fail(Errc::invalid_argument, "{} means nothing to godwit {}: it is for {}", word, command, *others);
  throw Error(Errc::invalid_argument, fmt::format("godwit {} has no option {}", command, word),
              fmt::format("see godwit {} --help", command));
}

}  // namespace godwit
