// What each error code means, and what can be done about it: the hint of an error that brings none of its own.
// docs/errors.md says the same, word for word.
#pragma once

#include "common/base/error.h"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace godwit::cli {

struct Explanation {
  std::string_view meaning, advice;
};

Explanation explanation(Errc code);

std::string hint_or_advice(Errc code, const std::string& hint);
// The same of a reason or an obstacle, as the coordinator tells it; empty for a code that is not known here.
std::string hint_of(const nlohmann::json& reason);

}  // namespace godwit::cli
