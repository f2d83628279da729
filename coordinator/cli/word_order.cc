#include "coordinator/cli/word_order.h"

#include "agent/engine/commands/options.h"
#include "common/commandline/foreign_options.h"
#include "common/commandline/verbosity.h"
#include "coordinator/cli/local.h"

#include <algorithm>
#include <set>

namespace godwit::cli {
namespace {

bool is_option(const std::string& word) { return word.size() > 1 && word[0] == '-'; }

std::set<std::string> all_with_value() {
  std::set<std::string> names = engine::commands::options_with_value();
  names.insert({"--ps-socket", "--coordinator", "--certs"});
  return names;
}

// Of letters that stand together the last one may have a value, and of any the value may stand right behind it.
bool value_follows(const std::string& word, const std::set<std::string>& with_value) {
  if (word.starts_with("--")) return with_value.contains(word);
  for (std::size_t i = 1; i < word.size(); i++)
    if (with_value.contains({'-', word[i]})) return i + 1 == word.size();
  return false;
}

std::size_t words_of(const std::string& command) { return command == "cpuinfo" || command == "image" ? 2 : 1; }

// Where the command's words are.
std::vector<std::size_t> find_command(const std::vector<std::string>& words) {
  const std::set<std::string> with_value = all_with_value();
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < words.size() && words[i] != "--"; i++) {
    if (is_option(words[i])) {
      if (value_follows(words[i], with_value)) i++;
      // Of an option that only CRIU has nobody knows here whether it has a value; it is refused later, by the command.
      else if (i + 1 < words.size() && reason_against(words[i]) && !is_option(words[i + 1]) &&
               !is_criu_command(words[i + 1]))
        i++;
      continue;
    }
    if (found.empty() && !is_criu_command(words[i])) break;
    found.push_back(i);
    if (found.size() == words_of(words[found[0]])) break;
  }
  return found;
}

}  // namespace

std::vector<std::string> command_first(std::vector<std::string> words) {
  std::vector<std::string> spelled = spell_out_verbosity(words), ordered;
  const std::vector<std::size_t> command = find_command(spelled);
  if (command.empty()) return words;
  for (const std::size_t at : command) ordered.push_back(spelled[at]);
  for (std::size_t i = 0; i < spelled.size(); i++)
    if (std::ranges::find(command, i) == command.end()) ordered.push_back(spelled[i]);
  return ordered;
}

}  // namespace godwit::cli
