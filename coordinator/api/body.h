// Bodies of the API's requests and answers.
#pragma once

#include "common/net/http.h"

#include <nlohmann/json.hpp>

#include <string>

namespace godwit::coordinator {

net::HttpResponse answer(const nlohmann::json& body, unsigned status = 200);

// Errc::invalid_argument for one that is too large or no JSON.
nlohmann::json parse_body(const std::string& body);

// A request that says all it has to say by its path: no body, or {}.
void no_members(const std::string& body, const char* what);

}  // namespace godwit::coordinator
