// Bodies and targets of requests to the API, and what the command line reads of its answers. The first byte says which.
#include "coordinator/api/body.h"
#include "coordinator/api/requests.h"
#include "coordinator/cli/client.h"
#include "coordinator/cli/options.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <cmath>

namespace godwit {

using namespace coordinator;

namespace {

void target(std::string_view text) {
  if (text.starts_with('/')) {
    std::string again;
    for (const std::string_view part : split_path(text)) again.append("/").append(part);
    require(again == text);
  }
  const std::int64_t limit = number_parameter(std::string(text), "limit", 50, 1000);
  require(limit >= 0 && limit <= 1000);
}

void event_lines(std::string_view text) {
  cli::EventLines lines([](const cli::ServerEvent& event) { require(event.body.is_object()); });
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.take(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const std::string text(input.substr(1));
  switch (input[0]) {
    case 'n': return no_members(text, "cancel");
    case 'r': {
      const RunRequest request = run_request(text);
      require(request.run.argv_size() > 0 && !request.node.empty());
      break;
    }
    case 'k': require(kill_request(text).signal - 1 < 64); break;
    case 'o': resolve_request(text); break;
    case 't': rate_request(text); break;
    case 'q': return target(text);
    case 'e': return event_lines(text);
    case 'a': cli::body_of({.status = 200, .body = text}); break;
    case 'f': cli::body_of({.status = 409, .body = text}); break;
    case 'd': require(cli::parse_duration(text).count() >= 0); break;
    case 'b': require(std::isfinite(cli::parse_bandwidth(text))); break;
    default: break;
  }
}

}  // namespace godwit
