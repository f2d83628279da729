// Options of CRIU that Godwit does not have, and why: so that a script that was written for CRIU is told more than
// "unknown".
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace godwit {

// `word` as it stands on the command line ("--lazy-pages", "-r", "--external=x"). Nothing: CRIU has no such option
// either.
std::optional<std::string> reason_against(std::string_view word);

}  // namespace godwit
