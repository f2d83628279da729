#include "common/commandline/option_owners.h"

#include <algorithm>
#include <array>

namespace godwit {
namespace {

struct Owned {
  std::string_view commands;
  std::string_view options;  // with a blank in between
};

constexpr std::array owned{
    Owned{"dump and pre-dump", "--leave-running -R --track-mem --timeout --page-server --page-server-header"},
    Owned{"dump and restore", "--leave-stopped -s"},
    Owned{"dump, pre-dump and page-server",
          "--prev-images-dir --address --port --tls --tls-cacert --tls-cacrl --tls-cert --tls-key --tls-no-cn-verify"},
    Owned{"dump, pre-dump and restore",
          "--tcp-close --file-locks -l --shell-job -j --link-remap --tcp-established --ext-unix-sk -x"},
    Owned{"dump, pre-dump, restore and page-server", "--auto-dedup --action-script --status-fd --pidfile"},
    Owned{"dump, pre-dump, restore, kill and resume", "--tree -t"},
    Owned{"restore", "--restore-detached --restore-sibling -S --namespaces -n"},
    Owned{"restore and page-server", "-d"},
    Owned{"page-server", "--daemon --ps-socket"},
    Owned{"commands that have an images directory", "--images-dir -D"},
    Owned{"commands that have a log", "--work-dir -W --log-file -o --verbosity -v"},
    Owned{"survey", "--json"},
};

bool names(std::string_view option, std::string_view word) {
  return option.starts_with("--") ? word.substr(0, word.find('=')) == option : word.starts_with(option);
}

}  // namespace

bool names_one(std::string_view options, std::string_view word) {
  for (std::string_view rest = options; !rest.empty();) {
    const std::string_view option = rest.substr(0, rest.find(' '));
    if (names(option, word)) return true;
    rest.remove_prefix(std::min(rest.size(), option.size() + 1));
  }
  return false;
}

std::optional<std::string> commands_with(std::string_view word) {
  for (const Owned& group : owned)
    if (names_one(group.options, word)) return std::string(group.commands);
  return std::nullopt;
}

}  // namespace godwit
