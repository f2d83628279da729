// JSON files that people write: named policies, and the traces and reports that `godwit simulate` reads. The first byte
// picks one.
#include "common/base/error.h"
#include "coordinator/json_file.h"
#include "coordinator/migration/policies.h"
#include "coordinator/simulation/trace.h"
#include "tests/fuzz/fuzz.h"

#include <string>

namespace godwit {

using namespace coordinator;

namespace {

// What is accepted once is accepted again as the API shows it.
void policies(const nlohmann::json& body) {
  nlohmann::json again;
  const Policies accepted = policies_from_json(body, "a file");
  for (const auto& [name, policy] : accepted) {
    nlohmann::json shown = to_json(name, policy);
    shown.erase("name");
    again["policies"][name] = std::move(shown);
  }
  if (!accepted.empty()) require(policies_from_json(again, "what is shown").size() == accepted.size());
}

void trace(const nlohmann::json& body) {
  const Trace t = trace_from_json(body, "a file");
  require(!t.loads.empty());
  double before = 0;
  for (const double seconds : {0.0, 0.001, 1.0, 60.0, 1e7}) {
    const double dirty = t.dirty_after(0, seconds);
    require(dirty >= before && dirty <= static_cast<double>(t.memory_bytes));  // a NaN is neither
    before = dirty;
  }
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.empty()) return;
  nlohmann::json body;
  try {
    body = parse_json(std::string(input.substr(1)), "a file");
  } catch (const Error& e) {
    require(e.errc() == Errc::invalid_argument);
    return;
  }
  if (input[0] == 'p')
    policies(body);
  else
    trace(body);
}

}  // namespace godwit
