// What a migration would be told, without one: nothing is recorded, reserved, tracked or kept, on either side.
#pragma once

#include "agent/service/context.h"

namespace godwit::service {

// The survey, by a job that reads and ends.
net::awaitable<api::Envelope> preview_source(Context& context, api::Survey request);

// Everything that a Prepare would be refused for, at once.
api::Envelope preview_destination(const Context& context, const api::Check& request);

}  // namespace godwit::service
