// What the policy refuses, as an error that an operator can act upon.
#pragma once

#include "common/base/error.h"
#include "coordinator/migration/policy.h"

#include <optional>

namespace godwit::coordinator {

// Of a decision to give up: with a hint that names a budget which could be met.
Error refusal(const Decision& decision);

// Before anything is asked of the nodes: no round can help, because the pause takes too long without any page.
std::optional<Error> hopeless(const Measurements& measured, const PolicyOptions& options);

}  // namespace godwit::coordinator
