// A migration as an operator asks for it over the API, or as the coordinator's journal has kept it: what is accepted
// once is accepted again as it is written down.
#include "coordinator/migration/json.h"
#include "tests/fuzz/fuzz.h"

namespace godwit {

using namespace coordinator;

namespace {

bool is_accepted(const nlohmann::json& body) {
  try {
    spec_from_json(body);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

void fuzz(std::string_view input) {
  const auto body = nlohmann::json::parse(input, nullptr, false);
  if (!body.is_discarded() && is_accepted(body)) require(is_accepted(to_json(spec_from_json(body))));
}

}  // namespace godwit
