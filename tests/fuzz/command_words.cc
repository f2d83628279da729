// A command line, word by word: as people write it, and as a command passes it on to its tracker's holder. Words end
// with a NUL.
#include "agent/engine/commands/options.h"
#include "common/base/error.h"
#include "common/commandline/foreign_options.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>

namespace godwit {

void fuzz(std::string_view input) {
  std::vector<std::string> words;
  while (!input.empty() && words.size() < 64) {
    const std::size_t end = std::min(input.find('\0'), input.size());
    words.emplace_back(input.substr(0, end));
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  for (const std::string& word : words) {
    if (const auto reason = reason_against(word)) require(!reason->empty());
    if (word.contains('h')) return;  // --help would print it
  }
  const std::vector<std::string> spelled = spell_out_verbosity(words);
  require(spelled.size() <= words.size() && spell_out_verbosity(spelled) == spelled);
  if (const auto options = engine::commands::parse(words))
    require(!options->command.empty() && options->verbosity <= highest_verbosity);
}

}  // namespace godwit
